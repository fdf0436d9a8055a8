"""Requests of which two readers could think that they end in different places: the one hidden in them is never begun.

A proxy in front and this server must agree where a request ends. What can be read in two ways is refused, or read so
that what follows is its body.
"""

import asyncio
from typing import Any

import pytest

from tests.transports.live_server import serve

HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: localhost\r\n\r\n"
CHUNKS = b"1\r\na\r\n0\r\n\r\n"
BOTH_WAYS = b"0\r\n\r\n" + HIDDEN
"""To who reads chunks, an empty body and a request; to who reads a length, a body."""

LENGTHS = {
    "two that differ": b"Content-Length: 0\r\nContent-Length: %d\r\n",
    "two that differ, the other way round": b"Content-Length: %d\r\nContent-Length: 0\r\n",
    "a list": b"Content-Length: 0, %d\r\n",
    "a sign": b"Content-Length: +%d\r\n",
    "less than nothing": b"Content-Length: -%d\r\n",
    "hexadecimal": b"Content-Length: 0x%d\r\n",
    "white space inside": b"Content-Length: 0 %d\r\n",
    "white space before the colon": b"Content-Length : %d\r\n",
    "a tab before the colon": b"Content-Length\t: %d\r\n",
    "a letter behind": b"Content-Length: %dx\r\n",
    "a fraction": b"Content-Length: 0.%d\r\n",
    "a NUL in it": b"Content-Length: 0\x00%d\r\n",
    "folded": b"Content-Length: 0\r\n %d\r\n",
    "no value": b"Content-Length:\r\nX: %d\r\n",
    "more than 64 bits": b"Content-Length: 18446744073709551616%d\r\n",
}
CODINGS = {
    "chunked twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "then identity": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    "a list that ends otherwise": b"Transfer-Encoding: chunked, identity\r\n",
    "unknown": b"Transfer-Encoding: xchunked\r\n",
    "unknown before it": b"Transfer-Encoding: x, chunked\r\n",
    "white space before the colon": b"Transfer-Encoding : chunked\r\n",
    "a tab before the colon": b"Transfer-Encoding\t: chunked\r\n",
    "a letter behind": b"Transfer-Encoding: chunkedx\r\n",
    "a vertical tab before it": b"Transfer-Encoding: \x0bchunked\r\n",
    "a NUL behind": b"Transfer-Encoding: chunked\x00\r\n",
    "quoted": b'Transfer-Encoding: "chunked"\r\n',
    "folded": b"Transfer-Encoding:\r\n chunked\r\n",
    "a bare line feed before it": b"X: y\nTransfer-Encoding: chunked\r\n",
    "a bare carriage return before it": b"X: y\rTransfer-Encoding: chunked\r\n",
    "an underscore": b"Transfer_Encoding: chunked\r\n",
    "white space before the name": b"X: y\r\n Transfer-Encoding: chunked\r\n",
    "another case": b"tRANSFER-eNCODING: cHUNKED\r\n",
    "plain": b"Transfer-Encoding: chunked\r\n",
    "no value": b"Transfer-Encoding:\r\n",
}
CHUNK_SIZES = {
    "a sign": b"+1\r\na\r\n",
    "less than nothing": b"-1\r\na\r\n",
    "a prefix": b"0x1\r\na\r\n",
    "white space before it": b" 1\r\na\r\n",
    "more than 64 bits": b"10000000000000001\r\na\r\n",
    "ends in a bare line feed": b"1\na\r\n",
    "ends in a bare carriage return": b"1\ra\r\n",
    "data longer than it says": b"1\r\nab\r\n",
    "no line behind the data": b"1\r\na",
    "no size": b"\r\na\r\n",
    "an extension with a line feed in it": b"1;x=\n\r\na\r\n",
    "a NUL": b"1\x00\r\na\r\n",
}


def answering(begun: list[str]) -> Any:
    """An application that notes the paths of the requests that were begun, and answers each without a body."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        begun.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    return app


def _head(lines: bytes, method: bytes = b"POST") -> bytes:
    return method + b" /first HTTP/1.1\r\nHost: localhost\r\n" + lines + b"\r\n"


LENGTH = b"Content-Length: %d\r\n" % len(BOTH_WAYS)
VARIANTS = {
    # Either is refused, or the whole is the body: never a body of no bytes and a request.
    **{f"length: {name}": _head(line % len(HIDDEN)) + HIDDEN for name, line in LENGTHS.items()},
    **{f"length and coding: {name}": _head(LENGTH + line) + BOTH_WAYS for name, line in CODINGS.items()},
    **{f"coding and length: {name}": _head(line + LENGTH) + BOTH_WAYS for name, line in CODINGS.items()},
    **{
        f"chunk: {name}": _head(b"Transfer-Encoding: chunked\r\n") + size + b"0\r\n\r\n" + HIDDEN
        for name, size in CHUNK_SIZES.items()
    },
    "a length, by GET": _head(LENGTH, b"GET") + BOTH_WAYS,
    "a body behind an upgrade": _head(LENGTH + b"Connection: Upgrade\r\nUpgrade: h2c\r\n") + BOTH_WAYS,
    "a body behind a handshake": _head(
        LENGTH + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        b"GET",
    )
    + BOTH_WAYS,
    "a body that was announced and not asked for": _head(LENGTH + b"Expect: 100-continue\r\n", b"PUT") + BOTH_WAYS,
}


@pytest.mark.parametrize("name", VARIANTS)
async def test_hidden_request_is_never_begun(name: str) -> None:
    begun: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        begun.append(scope["path"])
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
            return
        if "not asked for" not in name:
            while (event := await receive()).get("more_body"):
                pass
            if event["type"] == "http.disconnect":
                return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async with serve(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(VARIANTS[name])
        writer.write_eof()
        said = await reader.read()
        writer.close()
    assert "/hidden" not in begun, said
    assert begun in ([], ["/first"])


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (b"Host: localhost\r\nHost: localhost\r\n", b"400"),
        (b"Host: other/path\r\n", b"400"),
        (b"Host: localhost\r\nTransfer-Encoding: gzip, chunked\r\n", b"501"),
    ],
)
async def test_request_is_judged_by_its_own_head_after_a_good_one_on_the_connection(
    lines: bytes, status: bytes
) -> None:
    begun: list[str] = []
    async with serve(answering(begun)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for path in (b"/first", b"/second"):
            writer.write(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
        writer.write(b"POST /third HTTP/1.1\r\n" + lines + b"\r\n")
        async with asyncio.timeout(5):
            said = await reader.read()
        writer.close()
    assert said.startswith(b"HTTP/1.1 " + status), said
    assert begun == ["/first", "/second"]


async def test_request_that_is_not_hidden_is_begun() -> None:
    begun: list[str] = []
    async with serve(answering(begun)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(_head(b"Transfer-Encoding: chunked\r\n") + CHUNKS + HIDDEN)
        writer.write_eof()
        await reader.read()
        writer.close()
    assert begun == ["/first", "/hidden"]
