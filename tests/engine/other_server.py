"""The application on an ordinary ASGI server: `python -m tests.engine.other_server hypercorn|uvicorn`.

Both close and ping in their own way. The tests on them show that messages are delivered with nothing but ASGI's `send`.
"""

import asyncio
import sys

import uvicorn
from hypercorn.asyncio import serve
from hypercorn.config import Config

from delivery.hubs import Hubs
from message_log.sql import SqlMessageLog
from resolvers.chat import Chat
from schema.operations import Operations
from settings import parse_settings
from transports.app import App, build_app


async def main(kind: str) -> None:
    settings = parse_settings([])
    log = SqlMessageLog(settings.database_url)
    hubs = Hubs(log)
    await log.open(hubs)
    await hubs.start()
    app = build_app(Chat(log=log, hubs=hubs), Operations())
    await (_uvicorn if kind == "uvicorn" else _hypercorn)(app, settings.port)
    await hubs.stop()
    await log.close()


async def _uvicorn(app: App, port: int) -> None:
    config = uvicorn.Config(app, port=port, ws="websockets-sansio", ws_per_message_deflate=False, log_level="warning")
    await uvicorn.Server(config).serve()


async def _hypercorn(app: App, port: int) -> None:
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    await serve(app, config)  # type: ignore[arg-type]


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
