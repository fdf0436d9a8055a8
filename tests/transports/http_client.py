"""The application of a server on a log in memory, in process and behind a real socket."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from resolvers.chat import Chat
from schema.operations import Operations
from tests.fakes import memory_chat
from tests.transports.live_server import serve
from transports.app import App, build_app


@asynccontextmanager
async def in_process(**settings: Any) -> AsyncIterator[tuple[Chat, httpx.AsyncClient]]:
    """A chat, and a client of its application without a network."""
    async with memory_chat() as chat:
        transport = httpx.ASGITransport(build_app(chat, Operations(), **settings))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8010") as client:
            yield chat, client


@asynccontextmanager
async def over_a_socket(**settings: Any) -> AsyncIterator[tuple[Chat, httpx.AsyncClient, App]]:
    """A chat, and a client of a real server on it."""
    async with memory_chat() as chat:
        app = build_app(chat, Operations(), **settings)
        async with (
            serve(app) as port,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10) as client,
        ):
            yield chat, client, app
