"""An LLM bot that answers every message in which its name is mentioned. It answers once, even if it is restarted
meanwhile.

Its answer grows while it is written. It stops when somebody completes the message.

uv run python -m examples.agent general
"""

import asyncio
import re
import sys
from collections.abc import AsyncIterator

from gql.transport.exceptions import TransportQueryError

from examples.channel_client import append, extensions_of, follow, post


async def think(prompt: str, so_far: str) -> AsyncIterator[str]:
    """Yields pieces of the answer. Ask your model here, and let it continue after the text that it has said so far."""
    whole = f"You said {len(prompt.split())} words; I would need a model to say more."
    for piece in re.findall(r"\S+\s*", whole.removeprefix(so_far)):
        await asyncio.sleep(0.05)
        yield piece


async def answer(url: str, channel_id: str, message: dict[str, str], name: str) -> None:
    """Begins an answer, or continues the one that was begun before a restart. The idempotency key finds it again."""
    mention = f"@{message['author']} "
    growing = await post(
        url,
        channelId=channel_id,
        author=name,
        content=mention,
        lane="answers",
        provider="anthropic",
        complete=False,
        idempotency_key=f"answer to {message['id']}",
    )
    try:
        if not growing["complete"]:
            async for piece in think(message["content"], growing["content"].removeprefix(mention)):
                growing = await append(url, growing, piece)
            await append(url, growing, "\n", tokenCount=len(growing["content"].split()), complete=True)
    except TransportQueryError as error:
        # A reader has stopped it, or another bot with this name writes the same answer.
        if extensions_of(error).get("code") not in ("MESSAGE_COMPLETE", "REVISION_CONFLICT"):
            raise


async def run(url: str, channel_id: str, after: str | None = None, name: str = "scribe") -> None:
    """Answers without end. The key contains the id of the message, so a message that is read twice is answered once."""
    async for message in follow(url, channel_id, after):
        if f"@{name}" in message["content"] and message["author"] != name:
            await answer(url, channel_id, message, name)


if __name__ == "__main__":
    asyncio.run(run("http://127.0.0.1:8010/graphql", sys.argv[1] if len(sys.argv) > 1 else "general"))
