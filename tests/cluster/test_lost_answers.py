"""PostgreSQL, directly and behind a pooler, commits a post, but its answer is lost with the connection."""

import asyncio

from message_log.sql import SqlMessageLog
from messages import Draft
from tests.cluster.proxy import proxied
from tests.message_log.recorder import Recorder, append, everything, held_back, post


async def test_post_whose_answer_is_lost_is_stored_and_told_once(
    database: dict[str, object], postgres_url: str
) -> None:
    recorder = Recorder()
    other = SqlMessageLog(postgres_url)
    await other.open(Recorder())
    async with proxied(str(database["database_url"])) as proxy:
        log = SqlMessageLog(proxy.url, notify_url=postgres_url)
        await log.open(recorder)
        await post(log, "first")
        proxy.mute()
        async with held_back(log):
            posting = asyncio.create_task(append(log, *(Draft("general", "ada", text) for text in "abc")))
        async with asyncio.timeout(5):
            while await other.last_sequence("general") < 4:
                await asyncio.sleep(0.01)
        await post(other, "between", author="eve")
        proxy.reset()
        proxy.heal()
        answers = await posting
        assert [answer.message.sequence for answer in answers] == [2, 3, 4]
        assert [message.content for message in await everything(other)] == ["first", *"abc", "between"]
        assert [message.content for message in recorder.messages] == ["first", *"abc"]
        await log.close()
    await other.close()
