"""Static files from memory: each is read once, so that later requests cost no thread and no disk."""

import asyncio
import hashlib
import mimetypes
from collections.abc import Mapping
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

PIECE_BYTES = 64 * 1024
"""A file is sent in pieces of this size, so that a client that does not read does not make the server copy it."""

Headers = list[tuple[bytes, bytes]]


class File:
    """One file, as it was when it was first asked for."""

    def __init__(self, path: Path, headers: Mapping[str, str]) -> None:
        self._path = path
        self._extra = headers
        self._reading: asyncio.Future[tuple[bytes, Headers, bytes]] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers GET and HEAD; with 304 when the client has the file already.

        Raises:
            HTTPException: 405, it is another method.
        """
        if scope["method"] not in ("GET", "HEAD"):
            raise HTTPException(405, headers={"Allow": "GET, HEAD"})
        if self._reading is None or (self._reading.done() and self._reading.exception() is not None):
            self._reading = asyncio.ensure_future(asyncio.to_thread(self._read))
        content, headers, etag = await asyncio.shield(self._reading)
        known = next((value for name, value in scope["headers"] if name == b"if-none-match"), b"")
        if etag in [each.strip().removeprefix(b"W/") for each in known.split(b",")]:
            unchanged = [header for header in headers if header[0] not in (b"content-length", b"content-type")]
            await send({"type": "http.response.start", "status": 304, "headers": unchanged})
            await send({"type": "http.response.body", "body": b""})
            return
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        view = memoryview(content if scope["method"] == "GET" else b"")
        for start in range(0, len(view), PIECE_BYTES):
            await send({"type": "http.response.body", "body": view[start : start + PIECE_BYTES], "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    def _read(self) -> tuple[bytes, Headers, bytes]:
        content = self._path.read_bytes()
        media_type = mimetypes.guess_type(self._path.name)[0] or "application/octet-stream"
        if media_type.startswith("text/"):
            media_type += "; charset=utf-8"
        etag = b'"%b"' % hashlib.sha256(content).hexdigest()[:32].encode()
        headers = [
            (b"content-type", media_type.encode()),
            (b"content-length", b"%d" % len(content)),
            (b"etag", etag),
            *((name.lower().encode(), value.encode()) for name, value in self._extra.items()),
        ]
        return content, headers, etag


class Files:
    """The files of a directory, by name, all with the same headers. The directory is listed once, when this is made."""

    def __init__(self, directory: Path, headers: Mapping[str, str]) -> None:
        self._files = {path.name: File(path, headers) for path in directory.iterdir() if path.is_file()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers GET and HEAD of `/…/name`.

        Raises:
            HTTPException: 404, there is no such file; 405, it is another method.
        """
        file = self._files.get(scope["path"].removeprefix(scope.get("root_path", "")).removeprefix("/"))
        if file is None:
            raise HTTPException(404)
        await file(scope, receive, send)
