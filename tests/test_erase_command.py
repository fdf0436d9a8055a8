"""`server.py erase --author NAME`."""

import asyncio
from pathlib import Path

import pytest

import server
from message_log.sql import SqlMessageLog
from messages import Draft
from tests.message_log.recorder import Recorder, append, everything


async def fill(url: str) -> None:
    log = SqlMessageLog(url)
    await log.open(Recorder())
    await append(log, *(Draft("general", author, f"{author} said so") for _ in range(300) for author in ("eve", "bob")))
    await log.close()


async def held(url: str) -> set[tuple[str, str]]:
    log = SqlMessageLog(url)
    await log.open(Recorder())
    found = {(message.author, message.content) for message in await everything(log)}
    await log.close()
    return found


def test_erase_command_says_how_many_and_leaves_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path}/log.db"
    asyncio.run(fill(url))
    assert server.main(["erase", "--author", "eve", "--database-url", url]) == 0
    assert "erased 300 messages" in capsys.readouterr().out
    assert asyncio.run(held(url)) == {("erased", ""), ("bob", "bob said so")}
    assert b"eve" not in b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert server.main(["erase", "--author", "eve", "--database-url", url]) == 0
    assert "erased 0 messages" in capsys.readouterr().out
