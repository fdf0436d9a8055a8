"""A worker's connection to the owner of the log: posts and calls go out, commits and answers come in.

The posts of one loop step are sent in one frame. Any number may be under way within the limits, and the owner answers
in commit order. When the connection ends, whatever is under way has an unknown outcome. Until there is a new connection
everything is refused.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, cast

import msgspec

from errors import Unavailable
from message_log.protocol import Appended, LogListener
from message_log.writer import WriterLimits
from messages import Draft, Message
from workers.frames import (
    LISTENER_METHODS,
    VERSION,
    Answer,
    Call,
    Hello,
    Kind,
    NotAFrame,
    Reader,
    Result,
    Told,
    arguments,
    decode,
    error_of,
    frame,
    raw,
)

logger = logging.getLogger("raqcoon.workers")

RETRY_AFTER_MS = 500
"""The `retryAfterMs` of posts while the owner is away: about as long as it takes to come back."""
FRAME_BYTES = 256 * 1024
"""Length of the posts of one frame, which ends with the post that exceeds it. So the owner never has to hold much of a
frame that has not arrived completely."""
UNSENT_BYTES_MAX = 16 * 1024 * 1024
"""What may wait for an owner that does not read. Past it posts are refused until the owner has read half of it."""
HELLO_SECONDS = 5.0
"""How long the owner may take to greet: its socket can be connected to before it starts and after it has ended."""
_PAUSE_SECONDS = (0.02, 0.5)
_TICK_SECONDS = 0.25


class _Pending:
    __slots__ = ("future", "gives_up_at", "size")

    def __init__(self, future: asyncio.Future[Appended], size: int, gives_up_at: float) -> None:
        self.future = future
        self.size = size
        self.gives_up_at = gives_up_at


class Link:
    """Keeps one connection to the owner, for as long as it is not closed. Used on the event loop.

    Args:
        path: the owner's Unix socket.
        listener: is told of commits, each whole and in order while there is a connection.
        limits: bounds of what is under way, the same as those of the log's writer.
        greeted: called with every greeting before anything else of that connection. The second argument is True when
            commits may have been missed since the connection before.
        revoked: called when the owner tells of revocations. It is not the listener that is called: whoever reads the
            revocations from the file tells it.
    """

    def __init__(
        self,
        path: str,
        listener: LogListener,
        limits: WriterLimits,
        greeted: Callable[[Hello, bool], None],
        revoked: Callable[[], None],
    ) -> None:
        self._path = path
        self._listener = listener
        self._limits = limits
        self._greeted = greeted
        self._revoked = revoked
        self._loop = asyncio.get_running_loop()
        self._connection: _Connection | None = None
        self._closed = False
        self._posted = 0
        """The number of the newest post."""
        self._called = 0
        self._pending: dict[int, _Pending] = {}
        self._pending_bytes = 0
        self._ticking = False
        self._drafts: list[msgspec.Raw] = []
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._connects = self._loop.create_task(self._stay_connected(), name="raqcoon-owner")
        self.connected = asyncio.Event()

    # -- what a worker asks -----------------------------------------------------------------------------------

    def post(self, draft: Draft, size: int) -> asyncio.Future[Appended]:
        """Sends a draft whose content has `size` bytes, in the order of the calls, with those of this loop step.

        Raises:
            Unavailable: the owner is away or does not keep up, or too much is under way. Nothing was stored.
        """
        limits, pending = self._limits, self._pending
        if self._closed:
            raise Unavailable("The message log is closed.")
        connection = self._connection
        if connection is None:
            raise Unavailable("The message log is starting again; nothing was stored.", RETRY_AFTER_MS)
        full = len(pending) >= limits.backlog_messages or self._pending_bytes >= limits.backlog_bytes
        if full or connection.paused:
            raise Unavailable(f"{len(pending)} posts are waiting to be stored; this one was not taken.")
        encoded = raw(draft)  # Encoded here, so that a draft that cannot be encoded fails alone.
        future: asyncio.Future[Appended] = self._loop.create_future()
        self._posted += 1
        pending[self._posted] = _Pending(future, size, self._loop.time() + limits.timeout_seconds)
        self._pending_bytes += size
        if not self._drafts:
            self._loop.call_soon(self._send_posts)
        self._drafts.append(encoded)
        if not self._ticking:
            self._ticking = True
            self._loop.call_later(_TICK_SECONDS, self._tick)
        return future

    async def call(self, method: str, *args: object, timeout_seconds: float | None = None) -> Any:
        """The encoded answer of a method of the owner's log.

        Raises:
            Unavailable: the owner is away, or did not answer in time: the outcome is unknown.
        """
        connection = self._connection
        if connection is None or connection.paused:
            raise Unavailable("The message log is starting again; nothing was stored.", RETRY_AFTER_MS)
        self._called += 1
        number = self._called
        calling = frame(Kind.CALL, Call(number, method, raw(args)))  # Encoded before anything waits, since it may fail.
        future = self._calls[number] = self._loop.create_future()
        connection.send(calling)
        try:
            async with asyncio.timeout(self._limits.timeout_seconds if timeout_seconds is None else timeout_seconds):
                return await future
        except TimeoutError:
            raise Unavailable("The message log did not answer in time.") from None
        finally:
            self._calls.pop(number, None)

    async def close(self) -> None:
        """Takes no more posts, waits for those under way, and ends the connection. Idempotent."""
        self._closed = True
        while self._pending and self._connection is not None:  # This ends, since each post has a time limit.
            await asyncio.wait([post.future for post in self._pending.values()])
        self._connects.cancel()
        await asyncio.gather(self._connects, return_exceptions=True)
        if self._connection is not None:
            self._connection.cut()
            self.lost(self._connection)

    # -- what goes out ----------------------------------------------------------------------------------------

    def _send_posts(self) -> None:
        drafts, self._drafts = self._drafts, []
        connection = self._connection
        if connection is None:
            return  # These posts failed when the connection was lost.
        first = self._posted - len(drafts) + 1
        start = size = 0
        for place, draft in enumerate(drafts):
            size += len(memoryview(draft))
            if size >= FRAME_BYTES:
                connection.send(frame(Kind.POSTS, (first + start, drafts[start : place + 1])))
                start, size = place + 1, 0
        if start < len(drafts):
            connection.send(frame(Kind.POSTS, (first + start, drafts[start:])))

    def _tick(self) -> None:
        # One timer serves all posts: they wait in order, so the first one has waited longest.
        now = self._loop.time()
        overdue = []
        for number, post in self._pending.items():
            if post.gives_up_at > now:
                break
            overdue.append(number)
        for number in overdue:
            self._fail(number, Unavailable("The message log did not answer in time."))
        self._ticking = bool(self._pending)
        if self._ticking:
            self._loop.call_later(_TICK_SECONDS, self._tick)

    # -- what comes in ----------------------------------------------------------------------------------------

    def stored(self, pairs: list[int], messages: list[Message]) -> None:
        """The owner has stored posts: numbers, and places in the commit that was told last."""
        places = iter(pairs)
        for number, place in zip(places, places, strict=True):
            self._settle(number, Appended(messages[place], created=True))

    def answered(self, answers: list[Answer]) -> None:
        for number, appended, failure in answers:
            if appended is not None:
                self._settle(number, appended)
            elif failure is not None:
                self._fail(number, error_of(failure))

    def returned(self, result: Result) -> None:
        future = self._calls.get(result.number)
        if future is not None and not future.done():
            if result.failure is None:
                future.set_result(result.value)
            else:
                future.set_exception(error_of(result.failure))

    def tell(self, method: str, args: tuple[Any, ...]) -> None:
        """Tells the listener what the log of the owner has told."""
        if method == "revoked":
            self._revoked()
            return
        try:
            getattr(self._listener, method)(*args)
        except Exception:
            logger.exception("the log's listener failed; the messages are stored")

    def _settle(self, number: int, appended: Appended) -> None:
        post = self._pending.pop(number, None)
        if post is not None:
            self._pending_bytes -= post.size
            if not post.future.done():
                post.future.set_result(appended)

    def _fail(self, number: int, error: Exception) -> None:
        post = self._pending.pop(number, None)
        if post is not None:
            self._pending_bytes -= post.size
            if not post.future.done():
                post.future.set_exception(error)

    # -- the connection ---------------------------------------------------------------------------------------

    def greeted(self, connection: "_Connection", hello: Hello) -> None:
        if hello.version != VERSION:
            raise NotAFrame(f"the owner speaks version {hello.version}")
        missed = self.connected.is_set()
        self._greeted(hello, missed)
        self._connection = connection
        self.connected.set()
        if missed:
            logger.warning("the log's owner is there again")

    def lost(self, connection: "_Connection") -> None:
        if connection is not self._connection:
            return
        self._connection = None
        if not self._closed:
            logger.warning("the log's owner is away; posts are refused until it is back")
        self._drafts = []
        for number in list(self._pending):
            self._fail(number, Unavailable("The message log was lost while it stored this post.", RETRY_AFTER_MS))
        for future in self._calls.values():
            if not future.done():
                future.set_exception(Unavailable("The message log was lost meanwhile.", RETRY_AFTER_MS))

    async def _stay_connected(self) -> None:
        shortest, longest = _PAUSE_SECONDS
        pause = shortest
        while True:
            connection = None
            try:
                _, connection = await self._loop.create_unix_connection(lambda: _Connection(self), self._path)
                async with asyncio.timeout(HELLO_SECONDS):
                    await connection.greeting
                pause = shortest
                await connection.end
            except (OSError, TimeoutError, NotAFrame) as error:
                logger.debug("the log's owner cannot be reached: %s", error)
            finally:
                if connection is not None:
                    connection.cut()
            await asyncio.sleep(pause)
            pause = min(2 * pause, longest)


class _Connection(asyncio.Protocol):
    """One connection to the owner. `greeting` is done when the owner has greeted, `end` when the connection is lost."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._reader = Reader()
        self._messages: list[Message] = []
        """The messages of the commit that was told last: `stored` names them by their place."""
        loop = asyncio.get_running_loop()
        self.greeting: asyncio.Future[None] = loop.create_future()
        self.end: asyncio.Future[None] = loop.create_future()
        self.paused = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).set_write_buffer_limits(UNSENT_BYTES_MAX, UNSENT_BYTES_MAX // 2)
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are not of that class.

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._link.lost(self)
        if not self.greeting.done():
            self.greeting.set_exception(exc or ConnectionResetError("it hung up"))
        if not self.end.done():
            self.end.set_result(None)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False

    def send(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def cut(self) -> None:
        """Ends the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        try:
            for kind, body in self._reader.feed(data):
                self._take(kind, body)
        except Exception as error:  # Nothing on this connection can be trusted now. The next one begins from the log.
            logger.error("the log's owner cannot be understood: %s", error)
            if not self.greeting.done():
                self.greeting.set_exception(error)
            self.cut()

    def _take(self, kind: int, body: bytes) -> None:
        link = self._link
        payload = decode(kind, body)
        if kind == Kind.TOLD:
            self._told(payload)
        elif kind == Kind.STORED:
            link.stored(payload, self._messages)
        elif kind == Kind.ANSWERS:
            link.answered(payload)
        elif kind == Kind.RESULT:
            link.returned(payload)
        elif kind == Kind.HELLO:
            link.greeted(self, payload)
            self.greeting.set_result(None)
        else:
            raise NotAFrame(f"the owner does not send kind {kind}")

    def _told(self, told: Told) -> None:
        if told.method not in LISTENER_METHODS:
            raise NotAFrame(f"the log's listener has no method {told.method!r}")
        args = arguments(LogListener, told.method, told.arguments)
        if told.method == "committed":
            self._messages = list(args[0].messages)
        self._link.tell(told.method, args)
