"""Group commit: one thread commits posts in one transaction, while the posts for the next one gather on the event
loop."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Protocol, TypeVar

from changes import ChangeDraft, MessageChangeKind
from errors import Forbidden, Unavailable
from message_log.committer import Committed
from message_log.protocol import Appended, Commit
from messages import Draft

logger = logging.getLogger(__name__)

T = TypeVar("T")

_TICK_SECONDS = 0.25
GATHER_SECONDS = 0.015
"""How long pieces of growing messages are gathered if their producers do not wait for answers. Readers of a growing
text do not notice it, and it saves writes: a commit writes whole pages, however little it holds."""


@dataclass(frozen=True, slots=True)
class WriterLimits:
    """How much is committed at once, how much may wait, and for how long.

    Attributes:
        batch_messages: posts in one transaction, at most.
        batch_bytes: a transaction takes no further post once its contents have reached this many bytes.
        backlog_messages: posts that wait or are being committed; further ones are refused.
        backlog_bytes: the same in bytes of content.
        timeout_seconds: how long a post waits for its outcome.
        gather_seconds: how long a commit waits, at most, until there are as many posts as there were a moment ago. A
            poster that has just been answered often posts again at once.
    """

    batch_messages: int = 512
    batch_bytes: int = 4 * 1024 * 1024
    backlog_messages: int = 8192
    backlog_bytes: int = 64 * 1024 * 1024
    timeout_seconds: float = 5.0
    gather_seconds: float = 0.0


class Poster(Protocol):
    """Whoever is told the outcome of a post: a future, or an object that is used like one."""

    def done(self) -> bool:
        """Whether it was told already, or does not wait any more."""

    def set_result(self, result: Appended, /) -> None: ...

    def set_exception(self, exception: BaseException, /) -> None: ...


class _Post:
    __slots__ = ("draft", "future", "gives_up_at", "size")

    def __init__(self, draft: Draft | ChangeDraft, size: int, future: Poster, gives_up_at: float) -> None:
        self.draft = draft
        self.size = size
        self.future = future
        self.gives_up_at = gives_up_at


class _Job:
    """Other work for the writer's thread, between two batches."""

    __slots__ = ("future", "work")

    def __init__(self, work: Callable[[], Any]) -> None:
        self.work = work
        self.future: Future[Any] = Future()

    def run(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            self.future.set_result(self.work())
        except Exception as error:
            self.future.set_exception(error)


class Writer:
    """A thread that commits, and the event loop's side of it. Made and used on the loop, except for `_run`
    and what it calls.

    The posts of one step of the loop are handed to the thread together. For a whole batch the thread schedules one
    callback on the loop, which tells the listener and then answers every post. Callbacks run in the order in which they
    were scheduled, so the listener hears of commits in commit order.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[Draft | ChangeDraft]], Committed],
        abort: Callable[[], None],
        publish: Callable[[Commit], None],
        limits: WriterLimits,
        forbids: Callable[[Draft | ChangeDraft], bool] = lambda draft: False,
    ) -> None:
        self._commit = commit
        self._abort = abort
        self._publish = publish
        self._limits = limits
        self._forbids = forbids
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[_Post | _Job | None] = SimpleQueue()
        self._of_this_step: list[_Post] = []
        self._waiting: deque[_Post] = deque()
        self._ticking = False
        self._messages = 0
        self._bytes = 0
        self._closed = False
        self._stopped = False
        self._pipelined: set[tuple[str, int]] = set()
        """The messages of the newest batch in which there were several pieces for one message."""
        self._likely_posts = 1
        """How many posts there were when the last commit ended: those in it, and those that waited. Written by the
        thread."""
        self._commit_seconds = 0.0
        """How long the last commit took."""
        self._thread = Thread(target=self._run, name="raqcoon-writer", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether posts can be committed at all."""
        return self._thread.is_alive() and not self._closed

    def post(self, draft: Draft | ChangeDraft, size: int) -> asyncio.Future[Appended]:
        """Hands a draft whose content has `size` bytes to the thread, in the order of the calls.

        Raises:
            Unavailable: too many posts wait already, or the log is closed. Nothing was stored.
        """
        future: asyncio.Future[Appended] = self._loop.create_future()
        self.post_for(draft, size, future)
        return future

    def post_for(self, draft: Draft | ChangeDraft, size: int, future: Poster) -> None:
        """`post` for another kind of poster. It is told in the same loop step as the listener, right after it."""
        limits = self._limits
        if self._closed:
            raise Unavailable("The message log is closed.")
        if self._messages >= limits.backlog_messages or self._bytes >= limits.backlog_bytes:
            raise Unavailable(f"{self._messages} posts are waiting to be stored; this one was not taken.")
        post = _Post(draft, size, future, self._loop.time() + limits.timeout_seconds)
        self._messages += 1
        self._bytes += size
        self._waiting.append(post)
        if not self._ticking:
            self._ticking = True
            self._loop.call_later(_TICK_SECONDS, self._tick)
        self._of_this_step.append(post)
        if len(self._of_this_step) >= self._likely_posts:
            self._hand_over()
        elif len(self._of_this_step) == 1:
            self._loop.call_soon(self._hand_over)

    def _hand_over(self) -> None:
        """Gives the thread the posts of one step of the loop together. If the first of many posts woke it, it would
        compete with the loop for the GIL, and would commit the posts in several small batches.

        Once as many have come as are likely, they do not wait for the end of the step: where a sweep is under way, the
        next part of it would come first, and a single publisher would wait for one more round of the loop.
        """
        posts, self._of_this_step = self._of_this_step, []
        for post in posts:
            self._queue.put(post)

    async def run(self, work: Callable[[], T], *, timeout_seconds: float | None = None) -> T:
        """Runs short work in the thread, between two batches, so that nothing else writes at that time.

        Waits as long as a post does, or `timeout_seconds`.

        Raises:
            Unavailable: the log is closed, or the work was not done in time.
        """
        if self._closed:
            raise Unavailable("The message log is closed.")
        job = _Job(work)
        self._queue.put(job)
        try:
            async with asyncio.timeout(self._limits.timeout_seconds if timeout_seconds is None else timeout_seconds):
                result: T = await asyncio.wrap_future(job.future)
        except TimeoutError:
            raise Unavailable("The message log did not answer in time.") from None
        return result

    async def stop(self) -> None:
        """Commits what waits and ends the thread. Idempotent."""
        if not self._closed:
            self._closed = True
            self._hand_over()
            self._queue.put(None)
        if self._thread.is_alive():
            await self._loop.run_in_executor(None, self._thread.join)

    def _tick(self) -> None:
        # One timer serves all posts: they wait in order, so the first one has waited longest.
        now = self._loop.time()
        waiting = self._waiting
        overdue = False
        while waiting and (waiting[0].future.done() or waiting[0].gives_up_at <= now):
            post = waiting.popleft()
            if not post.future.done():
                post.future.set_exception(Unavailable("The message log did not answer in time."))
                overdue = True
        self._ticking = bool(waiting)
        if self._ticking:
            self._loop.call_later(_TICK_SECONDS, self._tick)
        if overdue:
            self._abort()  # else a database that neither answers nor closes the connection would hold the thread

    def _settle(self, posts: list[_Post], tried: list[_Post], forbidden: list[_Post], committed: Committed) -> None:
        self._messages -= len(posts)
        self._bytes -= sum(post.size for post in posts)
        try:
            if committed.messages or committed.changes:
                self._publish(Commit(committed.messages, committed.changes))
        except Exception:
            logger.exception("the log's listener failed; the messages are stored")
        for post, outcome in zip(tried, committed.outcomes, strict=True):
            if post.future.done():
                continue
            if isinstance(outcome, Appended):
                post.future.set_result(outcome)
            else:
                post.future.set_exception(outcome)
        for post in forbidden:
            if not post.future.done():
                post.future.set_exception(Forbidden("Your access was revoked; nothing was stored."))
        for post in posts:
            if not post.future.done():  # it was not tried
                post.future.set_exception(Unavailable("Too many posts wait to be stored; this one was not taken."))

    def _run(self) -> None:
        while not self._stopped:
            posts, jobs = self._take()
            if posts and not self._serve(posts):
                return
            for job in jobs:
                job.run()

    def _serve(self, posts: list[_Post]) -> bool:
        # A post that was cancelled or has given up is not tried any more. Neither is one that would give up before its
        # commit could be done: it would be stored, but its poster would be told that the outcome is unknown. When more
        # is posted than can be stored, this would soon happen to all posts. The bound (`min`) is for a single slow
        # commit, after which posts must still be tried.
        in_time = self._loop.time() + min(self._commit_seconds, self._limits.timeout_seconds / 2)
        tried: list[_Post] = []
        forbidden: list[_Post] = []
        for post in posts:
            if not post.future.done() and post.gives_up_at > in_time:
                # Checked again here: if access was revoked while the post waited, it must not be stored.
                (forbidden if self._forbids(post.draft) else tried).append(post)
        began_at = time.monotonic()
        try:
            committed = self._commit([post.draft for post in tried]) if tried else Committed([], [], [])
        except Exception:
            logger.exception("the writer failed")
            committed = Committed([Unavailable() for _ in tried], [], [])
        if tried:
            self._commit_seconds = time.monotonic() - began_at
        # Before the answers: a poster who gets one may post again at once, and would be counted twice.
        self._likely_posts = len(posts) + self._queue.qsize()
        try:
            self._loop.call_soon_threadsafe(self._settle, posts, tried, forbidden, committed)
        except RuntimeError:  # The loop was closed meanwhile: nobody is left to be told.
            return False
        return True

    def _wait_seconds(self, posts: list[_Post], began_at: float) -> float:
        """How long a batch may still wait for more posts. It does not wait if this is 0 or less."""
        for_pieces = self._pieces_wait_seconds(posts, began_at)
        if for_pieces > 0 or len(posts) >= self._likely_posts:
            return for_pieces
        return began_at + self._limits.gather_seconds - time.monotonic()

    def _pieces_wait_seconds(self, posts: list[_Post], began_at: float) -> float:
        """How long a batch may wait for more. It waits if it has only pieces, and several of them are for one message,
        in this batch or in the last. Such pieces come from a producer that does not wait for each answer, so more of
        them are on their way and can share the write."""
        places = set()
        for post in posts:
            draft = post.draft
            if not isinstance(draft, ChangeDraft) or draft.kind is not MessageChangeKind.APPENDED:
                return 0.0
            places.add((draft.channel_id, draft.message_sequence))
        if len(posts) > len(places):
            self._pipelined = places
        return began_at + GATHER_SECONDS - time.monotonic() if places & self._pipelined else 0.0

    def _take(self) -> tuple[list[_Post], list[_Job]]:
        """Waits until there is something to do and takes what is there, within the bounds of a batch."""
        posts: list[_Post] = []
        jobs: list[_Job] = []
        size = 0
        item = self._queue.get()
        began_at = time.monotonic()
        while True:
            if item is None:
                self._stopped = True  # None is put last: nothing comes after it.
                break
            if isinstance(item, _Job):
                jobs.append(item)
            else:
                posts.append(item)
                size += item.size
            if len(posts) >= self._limits.batch_messages or size >= self._limits.batch_bytes:
                break
            try:
                item = self._queue.get_nowait()
            except Empty:
                wait_seconds = self._wait_seconds(posts, began_at) if not jobs else 0.0
                if wait_seconds <= 0:
                    break
                try:
                    item = self._queue.get(timeout=wait_seconds)
                except Empty:
                    break
        return posts, jobs
