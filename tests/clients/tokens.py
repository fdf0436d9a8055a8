"""A server that gives tokens to clients. Each token is short, so a subscription needs many."""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Sequence

import jwt

SECRET = "a secret that is only good for tests, but long enough"


def make_token(author: str, seconds: int) -> str:
    """A token of `author`, good for `seconds` to one second more."""
    return jwt.encode({"sub": author, "exp": math.ceil(time.time()) + seconds}, SECRET, algorithm="HS256")


class TokenServer:
    """Answers each GET with a new token of the author that the path names, and counts them in `issued`."""

    def __init__(self, seconds: int) -> None:
        self.issued: Counter[str] = Counter()
        self._seconds = seconds
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> "TokenServer":
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def until_each_asked_again(self, names: Sequence[str]) -> None:
        """Waits until each of `names` has got a further token."""
        before = self.issued.copy()
        async with self._changed:
            await self._changed.wait_for(lambda: all(self.issued[name] > before[name] for name in names))

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, OSError):
            writer.close()
            return
        name = head.split(b" ", 2)[1].decode().lstrip("/")
        token = make_token(name, self._seconds)
        writer.write(f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {len(token)}\r\n\r\n{token}".encode())
        writer.close()
        async with self._changed:
            self.issued[name] += 1
            self._changed.notify_all()
