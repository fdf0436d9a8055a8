"""A SQLite log whose file another process has open for writing: this process reads it and writes nothing."""

import asyncio
from typing import NoReturn, cast

from sqlalchemy import Engine, event, make_url, select
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import SQLAlchemyError

from errors import StartupError, Unavailable
from message_log.change_queries import ChangeQueries
from message_log.committer import Committer
from message_log.database_url import dialect_of
from message_log.dialect import Dialect
from message_log.protocol import LogListener
from message_log.queries import Queries
from message_log.readers import Readers
from message_log.sql import PROBE_SECONDS, Parts, SqlMessageLog
from message_log.sqlite import SqliteDialect
from message_log.tables import log_info
from message_log.writer import Writer
from messages import Draft


class _ReadingDialect(SqliteDialect):
    """Opens the file without the server's lock, on connections that SQLite does not allow to write."""

    exclusive = False
    creates = False

    def claim(self) -> None:
        """Does nothing: the lock is held by the process that writes."""

    def engine(self, connections: int) -> Engine:
        engine = super().engine(connections)

        @event.listens_for(engine, "connect")
        def only_read(driver: DBAPIConnection, _record: object) -> None:
            cursor = driver.cursor()
            cursor.execute("PRAGMA query_only = ON")
            cursor.close()

        return engine


class _NoWriter:
    """Takes the place of a log's writer."""

    alive = False

    def post(self, draft: Draft, size: int) -> NoReturn:
        raise Unavailable("This process does not write the message log.")

    post_for = run = post

    async def stop(self) -> None:
        """Does nothing: nothing was begun."""


class ReadingLog(SqlMessageLog):
    """The reading half of `protocol.MessageLog`. A class that derives from it adds how to write.

    It sees each commit as soon as it is done, like the readers of the process that writes (SQLite: WAL).
    """

    def _speaks(self, url: str) -> Dialect:
        dialect = dialect_of(url)
        if not isinstance(dialect, SqliteDialect):
            raise StartupError("only a SQLite log is read beside the process that writes it")
        return _ReadingDialect(make_url(url))

    async def open(self, listener: LogListener) -> None:
        if self._parts is not None:
            raise RuntimeError("the log is open already")
        engine, epoch, _ = await asyncio.to_thread(self._prepare)
        self._epoch = epoch
        timeout_seconds = self._limits.timeout_seconds
        self._parts = Parts(
            engine=engine,
            committer=Committer(self._dialect, engine, epoch=epoch, now=self._now),  # It never connects.
            hints=None,
            writer=cast(Writer, _NoWriter()),
            readers=Readers(self._dialect, engine, threads=self._reader_threads, timeout_seconds=timeout_seconds),
            probe=Readers(self._dialect, engine, threads=1, timeout_seconds=PROBE_SECONDS),
            queries=Queries(self._dialect, epoch),
            change_queries=ChangeQueries(self._dialect, epoch),
            listener=listener,
            watch=self._watch(listener),
        )
        await self._begin_watch()

    def _prepare(self) -> tuple[Engine, str, bool]:
        engine = self._dialect.engine(self._reader_threads + 1)
        try:
            with engine.connect() as connection:
                return engine, connection.execute(select(log_info.c.epoch)).scalar_one(), True
        except SQLAlchemyError as error:
            engine.dispose()
            raise StartupError(f"the SQLite file {self.location} cannot be read: {error}") from error
