"""Readers of the log: a few threads, each with a connection of its own. They never wait for the writer."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from threading import Lock
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from errors import LogDamaged, Unavailable
from message_log.damage import DamageLog
from message_log.dialect import Dialect
from message_log.reader_threads import ReaderThreads

logger = logging.getLogger(__name__)

T = TypeVar("T")


class _Read:
    """One query under way. With it the event loop can abort a query for which nobody waits any more."""

    __slots__ = ("_driver", "_given_up", "_lock")

    def __init__(self) -> None:
        self._lock = Lock()
        self._driver: DBAPIConnection | None = None
        self._given_up = False

    def begin(self, connection: Connection) -> None:
        with self._lock:
            if self._given_up:
                raise Unavailable
            self._driver = connection.connection.driver_connection

    def end(self) -> None:
        with self._lock:
            self._driver = None

    def give_up(self, dialect: Dialect) -> None:
        with self._lock:
            self._given_up = True
            if self._driver is not None:
                dialect.abort(self._driver)


class Readers:
    """Runs queries in threads. At most `threads` at a time; at most `waiting_max` in all, further ones are refused."""

    def __init__(
        self, dialect: Dialect, engine: Engine, *, threads: int, waiting_max: int = 4096, timeout_seconds: float = 5.0
    ) -> None:
        self._dialect = dialect
        self._engine = engine
        self._threads = ReaderThreads(threads)
        self._waiting_max = waiting_max
        self._timeout_seconds = timeout_seconds
        self._waiting = 0
        self._closed = False
        self._failing = False
        self._damage = DamageLog()

    async def run(self, query: Callable[[Connection], T], *, timeout_seconds: float | None = None) -> T:
        """What `query` returns for a connection in autocommit mode. A query that reads must only read: it may be
        tried again when its connection was lost.

        Raises:
            Unavailable: the database failed, did not answer in time, or too many queries wait already.
            LogDamaged: what is stored there is damaged.
        """
        if self._closed:
            raise Unavailable("The message log is closed.")
        if self._waiting >= self._waiting_max:
            raise Unavailable(f"{self._waiting} reads are waiting already.", retry_after_ms=250)
        loop = asyncio.get_running_loop()
        read = _Read()
        answer = self._threads.run(partial(self._query, query, read))
        deadline = loop.call_later(
            self._timeout_seconds if timeout_seconds is None else timeout_seconds, _expire, answer
        )
        self._waiting += 1
        try:
            return await answer
        except TimeoutError:
            read.give_up(self._dialect)
            raise Unavailable("The message log did not answer in time.") from None
        except asyncio.CancelledError:
            # The query will end by itself. To abort it now would cost a connection to PostgreSQL for each client that
            # leaves.
            loop.call_later(self._timeout_seconds, read.give_up, self._dialect)
            raise
        finally:
            deadline.cancel()
            self._waiting -= 1

    async def stop(self) -> None:
        """Lets queries under way finish and ends the threads. Idempotent."""
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(None, self._threads.stop)

    def _query(self, query: Callable[[Connection], T], read: _Read) -> T:
        try:
            try:
                return self._attempt(query, read)
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
                return self._attempt(query, read)  # The pool has dropped all its connections, so this is a new one.
        except SQLAlchemyError as error:
            if self._dialect.damaged(getattr(error, "orig", None)):
                self._damage.note(error)
                raise LogDamaged from error
            if not self._failing:  # logged once in each outage, not for each read
                logger.warning("reads fail: %s", " ".join(str(error).split()))
            self._failing = True
            raise Unavailable from error

    def _attempt(self, query: Callable[[Connection], T], read: _Read) -> T:
        pool = self._engine.pool
        with self._engine.connect() as connection:
            read.begin(connection)
            try:
                answer = query(connection)
            finally:
                read.end()
                if self._engine.pool is not pool:
                    connection.invalidate()  # Something was erased meanwhile, and this one may keep pages of before.
        if self._failing:
            self._failing = False
            logger.warning("reads succeed again")
        return answer


def _expire(answer: "asyncio.Future[T]") -> None:
    if not answer.done():
        answer.set_exception(TimeoutError())
        answer.exception()  # Nobody may be left who takes it.
