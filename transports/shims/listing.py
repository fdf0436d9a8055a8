"""Long lists over REST: they are sent in pieces, as fast as the client takes them, and are read piece by piece.

To the client it is the same JSON. A short list is one answer with its length. Of a long list at most two pieces are
held at any time, so a client that does not read makes the server hold little. If the log fails in the middle of a list,
the connection is cut: half an answer must not look like a complete one.
"""

from collections.abc import AsyncIterator, Sequence

import orjson
from fastapi import Response
from starlette.types import Receive, Scope, Send

from messages import Message, Viewer
from resolvers import history
from resolvers.chat import Chat
from resolvers.fair_queue import Client
from resolvers.readable_channels import readable_channels
from schema.context import Context
from transports.shims.items import message_item
from transports.wire.http_exchange import OURS_ALONE
from transports.wire.sockets import client_address

PIECE_BYTES = 128 * 1024
"""Length of the contents that are read at once; a single message may be longer."""
FIRST_MESSAGES = 32
"""Messages of all channels that are read first, while their length is not known."""
PIECE_CHANNELS = 1_000


class Listing:
    """What one REST call lists, and for whom."""

    def __init__(self, chat: Chat, viewer: Viewer, scope: Scope) -> None:
        self._chat = chat
        self._viewer = viewer
        self._context = Context(chat, viewer, client_address(scope), scope.get("client"))

    @property
    def client(self) -> Client:
        return self._context.client

    async def of_channel(self, channel_id: str, after: str | None, limit: int) -> AsyncIterator[bytes]:
        """Pieces of the oldest `limit` messages after a cursor. Raises as `history.messages_after`."""
        while limit:
            async with self._context.reading():
                found = await history.messages_after(
                    self._chat, self._viewer, channel_id, after=after, limit=limit, max_bytes=PIECE_BYTES
                )
            if found:
                async for piece in self._pieces(found):
                    yield piece
            # A read that was not cut short has returned everything.
            if sum(message.text_bytes for message in found) <= PIECE_BYTES:
                return
            limit -= len(found)
            after = found[-1].cursor

    async def of_all(self, limit: int) -> AsyncIterator[bytes]:
        """Pieces of the oldest `limit` messages of all channels. Raises as `history.oldest_messages`."""
        size, last = FIRST_MESSAGES, None
        while limit:
            size = min(size, limit)
            async with self._context.reading():
                found = await history.oldest_messages(self._chat, self._viewer, limit=size, after=last)
            if found:
                async for piece in self._pieces(found):
                    yield piece
            if len(found) < size:
                return
            limit -= size
            last = found[-1]
            mean_bytes = 1 + sum(message.text_bytes for message in found) // len(found)
            size = max(4, PIECE_BYTES // mean_bytes)

    async def of_channels(self, after: str | None, limit: int | None) -> AsyncIterator[bytes]:
        """Pieces of the ids of channels that follow `after`, at most `limit`, None for all of them."""
        while limit is None or limit:
            size = PIECE_CHANNELS if limit is None else min(limit, PIECE_CHANNELS)
            async with self._context.reading():
                found = await readable_channels(self._chat, self._viewer, after=after, limit=size)
            if found:
                async for piece in self._held(orjson.dumps([head.channel_id for head in found])[1:-1]):
                    yield piece
            if len(found) < size:
                return
            limit = None if limit is None else limit - size
            after = found[-1].channel_id

    async def _pieces(self, messages: Sequence[Message]) -> AsyncIterator[bytes]:
        async for piece in self._held(orjson.dumps([message_item(message) for message in messages])[1:-1]):
            yield piece

    async def _held(self, piece: bytes) -> AsyncIterator[bytes]:
        """Yields the piece. Its bytes are counted until the next piece is asked for."""
        who, size = self.client.who, len(piece)
        self._chat.untaken_answers.hold(who, size)
        try:
            yield piece
        finally:
            self._chat.untaken_answers.release(who, size)


class Listed(Response):
    """`{name: [piece, piece …]}`. The first piece was read already, so errors in the request were raised before."""

    def __init__(self, name: str, first: bytes, more: AsyncIterator[bytes]) -> None:
        self.body = b'{"%b":[%b' % (name.encode(), first)
        self.status_code = 200
        self.background = None
        self._more = more
        self.raw_headers = [(b"content-type", b"application/json"), *OURS_ALONE]

    @classmethod
    async def of(cls, name: str, pieces: AsyncIterator[bytes]) -> "Listed":
        """The list of these pieces. Raises what reading the first one raises."""
        return cls(name, await anext(pieces, b""), pieces)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = bytes(self.body)
        piece = await anext(self._more, None)
        if piece is None:
            body += b"]}"
            headers = [(b"content-length", b"%d" % len(body)), *self.raw_headers]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})
            return
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        self.body = b""
        while piece is not None:
            await send({"type": "http.response.body", "body": body, "more_body": True})
            body = b"," + piece
            piece = await anext(self._more, None)
        await send({"type": "http.response.body", "body": body + b"]}"})
