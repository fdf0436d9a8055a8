"""Servers as separate processes, one for each test."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.engine.engine_server import EngineServer

OTHERS = {
    "raqcoon": ("server.py",),
    "uvicorn": ("-m", "tests.engine.other_server", "uvicorn"),
    "hypercorn": ("-m", "tests.engine.other_server", "hypercorn"),
}


@pytest.fixture
async def start_server(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """Starts a server with the settings that it is called with."""
    async with AsyncExitStack() as stack:

        async def start(on: str = "raqcoon", **settings: object) -> EngineServer:
            return await stack.enter_async_context(EngineServer(tmp_path, command=OTHERS[on], **settings))

        yield start
