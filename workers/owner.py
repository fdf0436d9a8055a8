"""The log's owner: the only process that has the SQLite file open for writing. It tells every worker each commit.

The posts of workers go straight to the log's writer, which commits what all workers have sent in one transaction. A
commit is encoded once for all workers. A worker is told a commit, and the answers to its own posts in it, by one write
to its socket. The commit comes first, so a commit is always heard before its posts are acknowledged.
"""

import asyncio
import logging
import os
import socket
import struct
from collections.abc import Sequence
from typing import Any, cast

from errors import Unavailable
from message_log.protocol import Appended, Commit, LogListener
from message_log.sql import SqlMessageLog
from messages import Message, Revocation
from workers.frames import (
    VERSION,
    Answer,
    Call,
    Hello,
    Kind,
    NotAFrame,
    Posts,
    Reader,
    Result,
    Told,
    arguments,
    decode,
    failure_of,
    frame,
    raw,
)

logger = logging.getLogger("raqcoon.owner")

UNREAD_BYTES_MAX = 32 * 1024 * 1024
"""What may wait for one worker: eight of the largest commits. When more waits, the worker's connection is cut. The
worker connects again and reads what it missed from the log."""
CALLS_MAX = 1024
"""Calls of one worker, besides posts, that may be under way. One more is answered with `Unavailable`."""
_CREDENTIALS = struct.Struct("3i")


class LogOwner(LogListener):
    """Serves a log to the workers of one server. Implements the log's listener; used on the event loop.

    `log` is to be opened with this object as its listener.
    """

    def __init__(self, log: SqlMessageLog) -> None:
        self.log = log
        self.workers: set[_Worker] = set()
        self.places: dict[int, int] = {}
        """The place of each message in the commit that was told last, by the `id` of its object."""
        self._last: Sequence[Message] = ()
        self._server: asyncio.AbstractServer | None = None
        self._alone = asyncio.Event()

    async def serve(self, listener: socket.socket) -> None:
        """Begins to accept workers on a listening Unix socket. The log has to be open."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: _Worker(self), sock=listener)

    async def forsaken(self) -> None:
        """Returns once no worker is connected."""
        while self.workers:
            self._alone.clear()
            await self._alone.wait()

    def leave(self, worker: "_Worker") -> None:
        """A worker's connection has ended."""
        self.workers.discard(worker)
        self._alone.set()

    async def stop(self) -> None:
        """Accepts no more workers, and ends the connections of those there are."""
        if self._server is not None:
            self._server.close()
        for worker in list(self.workers):
            worker.cut()
        await asyncio.sleep(0)

    # -- LogListener ------------------------------------------------------------------------------------------

    def committed(self, commit: Commit) -> None:
        # The list is kept, since an `id` is only valid while its object lives.
        self._last = commit.messages
        self.places = {id(message): place for place, message in enumerate(commit.messages)}
        self._tell("committed", commit)

    def hinted(self, channel_id: str, sequence: int) -> None:
        self._tell("hinted", channel_id, sequence)

    def hinted_changes(self, channel_id: str, sequence: int) -> None:
        self._tell("hinted_changes", channel_id, sequence)

    def heard(self, commit: Commit) -> None:
        self._tell("heard", commit)

    def misheard(self) -> None:
        self._tell("misheard")

    def missed(self) -> None:
        self._tell("missed")

    def revoked(self, revocations: Sequence[Revocation]) -> None:
        self._tell("revoked", revocations)

    def _tell(self, method: str, *args: object) -> None:
        told = frame(Kind.TOLD, Told(method, raw(args)))
        for worker in list(self.workers):
            worker.tell(told)


class _Worker(asyncio.Protocol):
    """One worker's connection. What it is told during a loop step is gathered and sent with one write."""

    def __init__(self, owner: LogOwner) -> None:
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._reader = Reader()
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes] = []
        self._stored: list[int] = []
        self._answers: list[Answer] = []
        self._leaving = False
        self._calls: set[asyncio.Task[None]] = set()

    # -- the connection ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not of_this_user(transport.get_extra_info("socket")):
            logger.warning("a process of another user was turned away")
            cast(asyncio.Transport, transport).abort()
            return
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are not of that class.
        self._owner.workers.add(self)
        self._send(frame(Kind.HELLO, Hello(VERSION, self._owner.log.epoch)))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._owner.leave(self)

    def cut(self) -> None:
        """Ends the connection at once; what was not sent is lost."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None
        self._owner.leave(self)

    # -- what comes -------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._transport is None:
            return
        try:
            for kind, body in self._reader.feed(data):
                payload = decode(kind, body)
                if isinstance(payload, Posts):
                    self._take(payload)
                elif isinstance(payload, Call):
                    self._begin(payload)
                else:
                    raise NotAFrame(f"a worker does not send kind {kind}")
        except NotAFrame as error:
            logger.warning("a worker is cut: %s", error)
            self.cut()

    def _take(self, posts: Posts) -> None:
        log = self._owner.log
        for number, draft in enumerate(posts.drafts, posts.first):
            post = _Post(self, number)
            try:
                log.append_for(draft, post)
            except Exception as error:
                post.set_exception(error)

    def _begin(self, call: Call) -> None:
        if len(self._calls) >= CALLS_MAX:
            self._answer_call(call.number, None, Unavailable(f"{CALLS_MAX} calls are under way already."))
            return
        task = self._loop.create_task(self._run(call))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _run(self, call: Call) -> None:
        method = CALLS.get(call.method)
        try:
            if method is None:
                raise NotAFrame(f"the log has no method {call.method!r} for workers")
            args = arguments(SqlMessageLog, call.method, call.arguments)
            value = await method(self._owner.log, *args)
        except Exception as error:
            self._answer_call(call.number, None, error)
        else:
            self._answer_call(call.number, value, None)

    # -- what goes --------------------------------------------------------------------------------------------

    def tell(self, told: bytes) -> None:
        """Sends a frame that is the same for all workers."""
        self._close_answers()
        self._send(told)

    def stored(self, number: int, appended: Appended) -> None:
        """Answers a post. A new message is named by its place in the commit that was told last, instead of being sent
        again."""
        place = self._owner.places.get(id(appended.message)) if appended.created else None
        if place is None:
            self._answers.append(Answer(number, appended, None))
        else:
            self._stored += (number, place)
        self._leave_soon()

    def failed(self, number: int, error: BaseException) -> None:
        self._answers.append(Answer(number, None, failure_of(error)))
        self._leave_soon()

    def _answer_call(self, number: int, value: Any, error: Exception | None) -> None:
        if error is not None and not hasattr(error, "code"):
            logger.error("a call of the log has failed", exc_info=error)
        self._send(frame(Kind.RESULT, Result(number, raw(value), None if error is None else failure_of(error))))

    def _close_answers(self) -> None:
        """Puts the answers so far into frames. They name places in the last commit, so they have to be sent before the
        next one."""
        if self._stored:
            self._out.append(frame(Kind.STORED, self._stored))
            self._stored = []
        if self._answers:
            self._out.append(frame(Kind.ANSWERS, self._answers))
            self._answers = []

    def _send(self, data: bytes) -> None:
        self._close_answers()
        self._out.append(data)
        self._leave_soon()

    def _leave_soon(self) -> None:
        if not self._leaving:
            self._leaving = True
            self._loop.call_soon(self._leave)

    def _leave(self) -> None:
        self._leaving = False
        self._close_answers()
        out, self._out = self._out, []
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if transport.get_write_buffer_size() > UNREAD_BYTES_MAX:
            logger.warning("a worker is cut: it has not read %d bytes", transport.get_write_buffer_size())
            self.cut()
            return
        transport.write(out[0] if len(out) == 1 else b"".join(out))


class _Post:
    """Used by the writer in the place of a future: what it sets is sent to the worker in the same loop step."""

    __slots__ = ("_done", "_number", "_worker")

    def __init__(self, worker: _Worker, number: int) -> None:
        self._worker = worker
        self._number = number
        self._done = False

    def done(self) -> bool:
        return self._done

    def set_result(self, appended: Appended) -> None:
        self._done = True
        self._worker.stored(self._number, appended)

    def set_exception(self, error: BaseException) -> None:
        self._done = True
        self._worker.failed(self._number, error)


CALLS: dict[str, Any] = {
    name: getattr(SqlMessageLog, name)
    for name in ("ready", "remove_before", "revoke", "restore", "change", "scrub", "take_name")
}
"""What a worker may ask of the owner besides appending: whatever writes, and whether the owner is ready."""


def of_this_user(peer: Any) -> bool:
    """Whether the process at the other end runs as this user. Where the system does not tell, True: then only the mode
    of the directory keeps other users out."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return True
    _pid, uid, _gid = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, option, _CREDENTIALS.size))
    return bool(uid == os.geteuid())
