"""A real server process for the examples."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.server_process import ServerProcess


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    process = ServerProcess(tmp_path)
    await process.start()
    try:
        yield process
    finally:
        await process.kill()
