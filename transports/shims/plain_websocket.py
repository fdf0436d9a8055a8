"""The plain WebSocket of the earlier server, `/api/ws/{channel_id}` (design 2.3), over the same resolvers.

The server sends every message of the channel as `{"type":"message","data":item}`. A frame `{"type":"message", …}` from
the client is a post, and `{"type":"ping"}` is answered by `{"type":"pong"}`. If a frame is wrong, the answer is
`{"type":"error","code","message"}`, and the socket stays open. A client that may post but not read can use a socket
too: it is sent nothing, and its posts are taken.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

from starlette.types import Message, Receive, Scope, Send

from delivery.results import Render
from delivery.sink import Sink
from delivery.subscriber import Subscriber
from errors import BadUserInput, Forbidden, InternalError, RaqcoonError, RetryLater, Unauthenticated
from messages import ANYONE, Viewer
from resolvers.chat import Chat
from resolvers.fair_queue import Client
from resolvers.post_message import post_message
from resolvers.rights import may_only_post
from resolvers.subscribe import subscribe
from schema.turns import Turns
from transports.gate.connections import Connections
from transports.gate.heavy_json import is_heavy
from transports.gate.limits import Limits
from transports.graphql.frames import CloseCode
from transports.shims.items import encode_change_frame, encode_message_frame
from transports.sight.logs import ConnectionFigures, request_id_headers
from transports.wire.json_codec import TooManyContainers, encode_json
from transports.wire.sinks import make_plain_sink as default_make_plain_sink
from transports.wire.sockets import (
    PLAIN_PREFIX,
    Allow,
    Authenticate,
    Expiry,
    anyone,
    client_address,
    everywhere,
    forget_handshake,
    refuse,
    transmit,
)

logger = logging.getLogger(__name__)

COHORT = "plain-websocket"
"""The cohort of all plain subscribers of a channel, since all of them get the same bytes."""
_FIELD_NAMES = {"channelId": "channel_id", "tokenCount": "token_count"}

_PONG = {"type": "websocket.send", "text": '{"type":"pong"}'}

MakePlainSink = Callable[[Scope, Send, Callable[[RaqcoonError | None], None]], Sink]
"""Makes a subscriber's side of a socket: (scope, send, on_end). `send` drops frames once the socket is closed."""


class PlainWebSocket:
    """The endpoint. One instance serves all sockets of all channels. See `GraphQLWebSocket` for the arguments."""

    def __init__(
        self,
        chat: Chat,
        *,
        connections: Connections | None = None,
        authenticate: Authenticate = anyone,
        allow: Allow = everywhere,
        make_sink: MakePlainSink = default_make_plain_sink,
        limits: Limits = Limits(),  # noqa: B008 - it is frozen
        turns: Turns | None = None,
    ) -> None:
        self.chat = chat
        self.connections = Connections() if connections is None else connections
        self.authenticate = authenticate
        self.allow = allow
        self.make_sink = make_sink
        self.limits = limits
        self.turns = Turns() if turns is None else turns

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (await receive())["type"] != "websocket.connect":
            return
        if await self.connections.turn_away(scope, send, allow=self.allow, accepting=self.chat.accepting):
            return
        address = client_address(scope)
        connection = PlainConnection(self, scope, send)
        self.connections.add(connection, address)
        try:
            await connection.run(receive)
        finally:
            self.connections.remove(connection)


class PlainConnection:
    """One plain socket. It has one subscription, and stores posts in the order in which they were sent."""

    __slots__ = (
        "__weakref__",
        "_changes",
        "_channel_id",
        "_closed",
        "_endpoint",
        "_expiry",
        "_opening",
        "_scope",
        "_send",
        "_sink",
        "_subscriber",
        "_tasks",
        "_viewer",
        "figures",
    )

    def __init__(self, endpoint: PlainWebSocket, scope: Scope, send: Send) -> None:
        self._endpoint = endpoint
        self._scope = scope
        self._send = send
        self._channel_id = scope["path"].partition(PLAIN_PREFIX)[2]
        self._viewer: Viewer = ANYONE
        self._subscriber: Subscriber | None = None
        self._changes: Subscriber | None = None
        self._expiry = Expiry()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._opening: asyncio.Event | None = asyncio.Event()
        """It is set and removed when the handshake is answered. No frame may be sent before that."""
        self.figures = ConnectionFigures("plain")

    async def run(self, receive: Receive) -> None:
        """Serves the socket until one side closes it. Afterwards no subscriber and no task is left."""
        try:
            if await self._welcome():
                forget_handshake(self._scope)
                while await self._take(await receive()):  # noqa: ASYNC110
                    # Refused frames are answered without waiting for anything. So other tasks get a turn here.
                    await asyncio.sleep(0)
        except Exception:
            logger.exception("A plain WebSocket failed")
            await self._fail(InternalError(), 1011)
        finally:
            await self._leave()

    async def _welcome(self) -> bool:
        """Subscribes, then answers the handshake. False if the client was turned away.

        The subscription stands before the client can see the answer. So the client gets everything that is posted after
        it has seen the answer.
        """
        refusal: RaqcoonError | None = None
        code: int = CloseCode.FORBIDDEN
        try:
            self._viewer = await self._endpoint.authenticate(None, self._scope)
            self._expiry.start(self._viewer, self.expel)
        except (Unauthenticated, Forbidden) as error:
            refusal = error
        except RaqcoonError as error:
            await refuse(self._scope, self._send, error.http_status, str(error))
            return False
        else:
            try:
                await self._subscribe()
            except RaqcoonError as error:
                refusal, code = error, 1013 if isinstance(error, RetryLater) else 1008
            except Exception:
                logger.exception("A plain WebSocket's subscription failed")
                refusal, code = InternalError(), 1011
        await transmit(self._send, {"type": "websocket.accept", "headers": request_id_headers()})
        self._open()
        if refusal is not None:
            # The handshake is accepted and then closed, because a browser does not see the status of a refused
            # handshake: it would try again with the same token for ever.
            await self._fail(refusal, code)
        return refusal is None

    def close(self, code: int, reason: str) -> None:
        """Ends the subscription and begins to send the close frame. Never raises, idempotent."""
        self._finish([], code, reason)

    async def _subscribe(self) -> None:
        query = parse_qs(self._scope["query_string"].decode("latin-1"), keep_blank_values=True)
        after = query.get("after")
        if not after and may_only_post(self._endpoint.chat, self._viewer, self._channel_id):
            return  # It is sent nothing, not even its own posts. With a cursor it would wait for messages.
        if query.get("changes") == ["1"]:
            # This comes first, so that no change is missed of a message that is sent from now on.
            self._changes = await self._begin(query.get("changes_after"), encode_change_frame, changes=True)
        self._subscriber = await self._begin(after, encode_message_frame, changes=False)

    async def _begin(self, after: list[str] | None, render: Render, *, changes: bool) -> Subscriber | None:
        """Subscribes to the channel's messages or changes, after a cursor or from now on. None if the socket was closed
        in the meantime."""
        subscriber = await subscribe(
            self._endpoint.chat,
            self._viewer,
            channel_id=self._channel_id,
            after=after[0] if after else None,
            filter=None,
            cohort=COHORT,
            render=render,
            sink=self._endpoint.make_sink(self._scope, self._send_if_open, self._ended),
            changes=changes,
        )
        if self._closed:
            subscriber.close()
            return None
        self.figures.subscriptions += 1
        return subscriber

    def _open(self) -> None:
        """Lets everything go on that waited for the answer to the handshake."""
        if self._opening is not None:
            self._opening.set()
            self._opening = None

    async def _take(self, event: Message) -> bool:
        """Handles one ASGI event completely. False if it was the last one."""
        if event["type"] != "websocket.receive":
            self._note_close(event.get("code", 1006))
            return False
        try:
            await self._answer(event.get("text"))
        except RaqcoonError as error:
            await self._send_if_open(self._error_event(error))
        except Exception:
            logger.exception("A post over a plain WebSocket failed")
            await self._send_if_open(self._error_event(InternalError()))
        return not self._closed

    async def _answer(self, text: str | None) -> None:
        if text is None:
            raise BadUserInput("frame", "must be text")
        try:
            if is_heavy(text):
                async with self._endpoint.turns.turn(self._client()):
                    frame = self._endpoint.limits.decode_json(text)
            else:
                frame = self._endpoint.limits.decode_json(text)
        except TooManyContainers as error:
            raise BadUserInput("frame", str(error)) from None
        except ValueError:
            raise BadUserInput("frame", "must be valid JSON") from None
        if not isinstance(frame, dict):
            raise BadUserInput("frame", "must be a JSON object")
        if frame.get("type") == "ping":
            await self._send_if_open(_PONG)
            return
        if frame.get("type") != "message":
            return
        if frame.get("content") is None:
            raise BadUserInput("content", "is required")
        author = frame.get("author")
        await post_message(
            self._endpoint.chat,
            self._viewer,
            channel_id=self._channel_id,
            author="unknown" if author is None else author,
            content=frame["content"],
            lane=frame.get("lane"),
            provider=frame.get("provider"),
            token_count=frame.get("token_count"),
            address=client_address(self._scope),
        )
        self.figures.posts += 1

    def _client(self) -> Client:
        return Client((client_address(self._scope), self._viewer.author), id(self))

    async def _send_if_open(self, event: Message) -> None:
        if self._opening is not None:
            await self._opening.wait()
        if not self._closed:
            await transmit(self._send, event)

    async def _fail(self, error: RaqcoonError, code: int) -> None:
        if not self._closed:
            self._closed = True
            await self._send_end([error], code, "")

    def _ended(self, error: RaqcoonError | None) -> None:
        """Called when the engine has ended the subscription. Then the socket is closed too, since it has no other
        use."""
        if error is None:
            self._finish([], 1012, "Service restart")
        else:
            self._finish([error], 1013 if isinstance(error, RetryLater) else 1008, "")

    @property
    def viewer(self) -> Viewer | None:
        return self._viewer

    def expel(self, error: RaqcoonError) -> None:
        """Ends the subscription with `error` and begins to close the socket with 4403."""
        self._finish([error], CloseCode.FORBIDDEN, "")

    def _finish(self, errors: list[RaqcoonError], code: int, reason: str) -> None:
        if self._closed:
            return
        self._closed = True
        for subscriber in (self._subscriber, self._changes):
            if subscriber is not None:
                subscriber.close()
        task = asyncio.get_running_loop().create_task(self._send_end(errors, code, reason))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send_end(self, errors: list[RaqcoonError], code: int, reason: str) -> None:
        if self._opening is not None:
            await self._opening.wait()
        self._note_close(code)
        for error in errors:
            await transmit(self._send, self._error_event(error))
        await transmit(self._send, {"type": "websocket.close", "code": int(code), "reason": reason})

    async def _leave(self) -> None:
        self._closed = True
        self._open()
        self._expiry.cancel()
        if self._subscriber is not None:
            self._subscriber.close()
            self.figures.delivered = self._subscriber.delivered
            # The subscriber's sink refers to `_ended`, and so to this object. Such a cycle would keep the channel's
            # tail in memory until the next garbage collection.
            self._subscriber = None
        if self._changes is not None:
            self._changes.close()
            self.figures.delivered += self._changes.delivered
            self._changes = None
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _error_event(self, error: RaqcoonError) -> dict[str, Any]:
        self._endpoint.chat.refusals[error.code] += 1
        return _error_event(error)

    def _note_close(self, code: int) -> None:
        if self.figures.close_code is None:
            self.figures.close_code = code


def _error_event(error: RaqcoonError) -> dict[str, Any]:
    """An error frame: `code`, a `message` with the field names of this shim, and the details that a program needs."""
    text = str(error)
    if isinstance(error, BadUserInput):
        text = f"{_FIELD_NAMES.get(error.argument, error.argument)} {error.problem}"
    details = {name: value for name, value in error.extensions.items() if name != "argument"}
    return {"type": "websocket.send", "text": encode_json({"type": "error", **details, "message": text})}
