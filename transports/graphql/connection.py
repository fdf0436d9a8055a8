"""One graphql-transport-ws socket: it does what the protocol core says, with ASGI, operations and the clock.

The frames of a socket are handled one after the other. A subscription has its position before the next frame is looked
at, so a pong proves that every `subscribe` before its ping is in place. Queries and mutations run in tasks of their
own.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from delivery.sink import Sink
from delivery.subscriber import Subscriber
from errors import Forbidden, RaqcoonError, RetryLater, TooManySubscriptions, Unauthenticated
from messages import Viewer
from resolvers.chat import Chat
from resolvers.fair_queue import Client
from schema.context import Context
from schema.documents import Prepared
from schema.errors import count_errors, format_errors
from schema.operations import Operations
from schema.turns import Turns
from transports.gate.heavy_json import is_heavy
from transports.gate.limits import Limits
from transports.graphql import protocol
from transports.graphql.frames import CloseCode, SubscribePayload
from transports.graphql.protocol import Authenticate, Close, Operation, ServerProtocol, Start, Stop
from transports.sight.logs import ConnectionFigures
from transports.wire import sockets
from transports.wire.json_codec import encode_json
from transports.wire.sinks import has_unread, write_texts
from transports.wire.sockets import Expiry, client_address, forget_handshake, transmit

logger = logging.getLogger(__name__)

INIT_WAITS_MAX = 10
"""How often the time for the `connection_init` begins anew because the server has not read what the client has sent."""
YIELD_EVERY_FRAMES = 4
"""How many frames of one socket are handled before others have their turn: an unknown document takes at least a
millisecond."""
TOGETHER_CHARACTERS_MAX = 16 * 1024
"""A result of at most this length is written together with the frame that completes its operation, because each write
costs a system call and a packet. A post's result has 100 characters. A longer result is written by itself, so that it
is counted until the socket has taken it."""
MakeSink = Callable[[Scope, Send, str, Callable[[RaqcoonError | None], None]], Sink]
"""Makes a subscriber's sink for a socket: (scope, send, operation id, on_end). `on_end` is called at most once, after
everything that the sink took was handed to the transport. `send` drops whatever comes after the operation's end."""


@dataclass(frozen=True)
class SocketSetup:
    """What all sockets of an endpoint have in common."""

    operations: Operations
    chat: Chat
    authenticate: sockets.Authenticate
    make_sink: MakeSink
    limits: Limits
    turns: Turns


class SocketConnection:
    """Does the I/O for one `ServerProtocol`. It has no task of its own while nothing happens."""

    __slots__ = ("__weakref__", "_expiry", "_protocol", "_scope", "_send", "_setup", "_tasks", "_viewer", "figures")

    def __init__(self, setup: "SocketSetup", scope: Scope, send: Send) -> None:
        self._setup = setup
        self._scope = scope
        self._send = send
        self._protocol = ServerProtocol(subscriptions_max=setup.limits.subscriptions, decode=setup.limits.decode_json)
        self._viewer: Viewer | None = None
        self._expiry = Expiry()
        self._tasks: set[asyncio.Task[None]] = set()
        self.figures = ConnectionFigures("graphql-ws")

    async def run(self, receive: Receive) -> None:
        """Serves the socket until either side closes it. Leaves no subscriber and no task behind."""
        try:
            if await self._initialise(receive):
                forget_handshake(self._scope)
                frames = 0
                while await self._take(await receive()):
                    frames += 1
                    if frames % YIELD_EVERY_FRAMES == 0:
                        # Frames that have arrived together need no wait in between, so others get a turn here.
                        await asyncio.sleep(0)
        except Exception:
            logger.exception("A GraphQL socket failed")
            await self._act(self._protocol.close(CloseCode.INTERNAL_SERVER_ERROR, "Internal server error"))
        finally:
            await self._leave()

    def close(self, code: int, reason: str) -> None:
        """Ends every subscription and begins to send the close frame. Never raises, idempotent."""
        close = self._protocol.close(code, reason)
        if close is not None:
            self._stop_all()
            self._spawn(self._act(close))

    async def _initialise(self, receive: Receive) -> bool:
        """Takes frames up to the `connection_ack`. False when there was none and the socket has ended."""
        core, limits = self._protocol, self._setup.limits
        waits = 0
        while True:
            receiving = False
            try:
                async with asyncio.timeout(limits.init_timeout_seconds):
                    while True:
                        receiving = True
                        event = await receive()
                        receiving = False
                        if event["type"] != "websocket.receive":
                            self._note_close(event.get("code", 1006))
                            return False
                        action = await self._decide(event)
                        if isinstance(action, Authenticate):
                            refused = await self._authenticate(action.connection_params)
                            break
                        await self._act(action)
                        if core.closed:
                            return False
                break
            except TimeoutError:
                waits += 1
                # A client whose bytes are here is not late: this server is. When thousands come at once, they wait for
                # their turn to be parsed.
                if not receiving or waits >= INIT_WAITS_MAX or not has_unread(self._scope):
                    await self._act(core.init_timed_out())
                    return False
        await self._act(core.acknowledge() if refused is None else refused)
        return not core.closed

    async def _authenticate(self, connection_params: dict[str, Any] | None) -> Close | None:
        """Finds out who the client is. Returns a close frame if the client is turned away."""
        core = self._protocol
        try:
            viewer = await self._setup.authenticate(connection_params, self._scope)
            self._expiry.start(viewer, self.expel)
        except (Unauthenticated, Forbidden):
            return core.close(CloseCode.FORBIDDEN, "Forbidden")
        except RetryLater:
            return core.close(CloseCode.TRY_AGAIN_LATER, "Try again later")
        except Exception:
            logger.exception("The authentication of a GraphQL socket failed")
            return core.close(CloseCode.INTERNAL_SERVER_ERROR, "Internal server error")
        self._viewer = viewer
        return None

    async def _decide(self, event: Message) -> protocol.Action | None:
        text = event.get("text")
        if text is None:
            return self._protocol.receive_binary()
        if not is_heavy(text):
            return self._protocol.receive_text(text)
        async with self._setup.turns.turn(self._client()):
            return self._protocol.receive_text(text)

    async def _take(self, event: Message) -> bool:
        """Handles one ASGI event to its end; False when it was the last."""
        if event["type"] != "websocket.receive":
            self._note_close(event.get("code", 1006))
            return False
        action = await self._decide(event)
        match action:
            case Start(operation, payload):
                await self._start(operation, payload)
            case Stop(operation):
                _stop(operation)
            case _:
                await self._act(action)
        return not self._protocol.closed

    async def _start(self, operation: Operation, payload: SubscribePayload) -> None:
        try:
            self._setup.limits.check_variables(payload.variables)
            prepared = await self._setup.operations.prepare_in_turn(
                payload.query, payload.operation_name, payload.extensions, client=self._context().client
            )
        except Exception as error:
            await self._act(self._protocol.fail(operation, self._errors(error)))
            return
        if prepared.kind == "subscription":
            await self._subscribe(operation, prepared, payload.variables)
            await asyncio.sleep(0)  # A subscribe takes as long as about ten other frames, even if it is refused.
            return
        while len(self._tasks) >= self._setup.limits.operations:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        if self._protocol.is_live(operation):
            operation.stop = self._spawn(self._execute(operation, prepared, payload.variables)).cancel

    async def _subscribe(self, operation: Operation, prepared: Prepared, variables: dict[str, Any] | None) -> None:
        core, setup = self._protocol, self._setup
        try:
            if not core.begin_stream(operation):
                raise TooManySubscriptions(setup.limits.subscriptions)
            send = partial(self._send_for, operation)
            sink = setup.make_sink(self._scope, send, operation.id, partial(self._ended, operation))
            subscriber = await setup.operations.subscribe(prepared, variables, self._context(), sink)
        except Exception as error:
            await self._act(core.fail(operation, self._errors(error)))
            return
        self.figures.subscriptions += 1
        if core.is_live(operation):
            operation.stop = partial(self._unsubscribe, subscriber)
        else:
            self._unsubscribe(subscriber)

    def _unsubscribe(self, subscriber: Subscriber) -> None:
        subscriber.close()
        self.figures.delivered += subscriber.delivered

    async def _execute(self, operation: Operation, prepared: Prepared, variables: dict[str, Any] | None) -> None:
        core = self._protocol
        context = self._context()
        try:
            outcome = await self._setup.operations.run(prepared, variables, context)
            result = encode_json(outcome)
        except Exception as error:
            context.release()
            await self._act(core.fail(operation, self._errors(error)))
            return
        try:
            if prepared.kind == "mutation":
                self.figures.posts += len(outcome.get("data") or ())
            if len(result) <= TOGETHER_CHARACTERS_MAX:
                await self._send_together([core.next_result(operation, result), core.complete(operation)])
                return
            await self._act(core.next_result(operation, result))
            # This waits until the socket has room again. Then the result is no longer in memory.
            await self._act(core.complete(operation))
        finally:
            context.release()

    def _ended(self, operation: Operation, error: RaqcoonError | None) -> None:
        """The engine has ended a subscription: tells the client, unless the client has ended it meanwhile."""
        core = self._protocol
        _stop(operation)  # The subscriber is closed already; this counts what it was sent.
        send = core.complete(operation) if error is None else core.fail(operation, self._errors(error))
        if send is not None:
            self._spawn(self._act(send))

    def _errors(self, error: Exception) -> list[dict[str, Any]]:
        return count_errors(self._setup.chat, format_errors(error))

    def _note_close(self, code: int) -> None:
        if self.figures.close_code is None:
            self.figures.close_code = int(code)

    def _context(self) -> Context:
        assert self._viewer is not None
        return Context(
            chat=self._setup.chat, viewer=self._viewer, address=client_address(self._scope), connection=id(self)
        )

    def _client(self) -> Client:
        """Who waits, where clients take turns; before the ack an address is all that is known."""
        return Client(client_address(self._scope), id(self)) if self._viewer is None else self._context().client

    @property
    def viewer(self) -> Viewer | None:
        return self._viewer

    def expel(self, error: RaqcoonError) -> None:
        """Ends every operation with `error` at once, and begins to close the socket with 4403."""
        if self._protocol.closed:
            return
        ended = self._protocol.fail_all(self._errors(error))
        close = self._protocol.close(CloseCode.FORBIDDEN, "Forbidden")
        for operation, _ in ended:
            _stop(operation)
        self._spawn(self._send_end([frame for _, frame in ended], close))

    async def _send_end(self, frames: list[protocol.Send], close: Close | None) -> None:
        for frame in frames:
            await transmit(self._send, {"type": "websocket.send", "text": frame.text})
        await self._act(close)

    async def _act(self, action: protocol.Action | None) -> None:
        match action:
            case protocol.Send(text):
                if not self._protocol.closed:
                    await transmit(self._send, {"type": "websocket.send", "text": text})
            case Close(code, reason):
                self._note_close(code)
                self._stop_all()
                await transmit(self._send, {"type": "websocket.close", "code": int(code), "reason": reason})

    async def _send_together(self, frames: list[protocol.Send | None]) -> None:
        """Sends frames in one write if the socket can take them now, otherwise one after the other."""
        texts = [frame.text for frame in frames if frame is not None]
        if not texts or self._protocol.closed or write_texts(self._scope, texts):
            return
        for text in texts:
            await self._act(protocol.Send(text))

    async def _send_for(self, operation: Operation, event: Message) -> None:
        """The `send` of a sink. Nothing is sent for an operation that has ended."""
        if self._protocol.is_live(operation) and not self._protocol.closed:
            await transmit(self._send, event)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _stop_all(self) -> None:
        for operation in self._protocol.abandon():
            _stop(operation)

    async def _leave(self) -> None:
        self._expiry.cancel()
        self._stop_all()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _stop(operation: Operation) -> None:
    stop, operation.stop = operation.stop, None
    if stop is not None:
        stop()
