"""`server.py revoke`, `restore` and `revocations`: they change the database directly while servers use it.

Each is one short transaction. A SQLite file is written without the lock of the server that holds it: SQLite's own locks
are enough, and the server sees that the counter has changed, as every node does.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import NamedTuple

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from errors import BadUserInput, StartupError
from message_log import revocations
from message_log.database_url import dialect_of
from message_log.sqlite import SqliteDialect
from messages import Revocation

OPERATOR = "command line"
"""The name of whoever revoked, as the list shows it."""


class Rules(NamedTuple):
    """The rules for names and times: the input rules of the server."""

    author: Callable[[object], str]
    channel_id: Callable[[object], str]
    end_of: Callable[[datetime | None, datetime], datetime | None]


def revoke_command(arguments: Sequence[str], rules: Rules, default_url: str) -> int:
    """Takes an author's access away and returns the exit code.

    Raises:
        StartupError: it cannot be done; the text is one line for the operator.
    """
    parser = _parser(
        "revoke", "Takes an author's access away, from now on, on every server of the database.", default_url
    )
    parser.add_argument("author")
    parser.add_argument("--channel", help="the channel; left out, every channel")
    parser.add_argument("--until", help="when it ends by itself, as in 2026-11-27T12:00:00Z; left out, never")
    chosen = parser.parse_args(arguments)
    now = datetime.now(UTC)
    author, channel = _named(chosen, rules)
    with _clear_errors():
        until = rules.end_of(_moment(chosen.until), now)
    revocation = Revocation(author, channel, until, now, OPERATOR)
    with _connection(chosen.database_url) as connection, _clear_errors():
        revocations.revoke(connection, revocation, now)
    print(f"revoked: {describe(revocation)}")
    return 0


def restore_command(arguments: Sequence[str], rules: Rules, default_url: str) -> int:
    """Takes a revocation back and returns the exit code: 1 where there was none.

    Raises:
        StartupError: it cannot be done; the text is one line for the operator.
    """
    parser = _parser("restore", "Gives an author the access back that was revoked.", default_url)
    parser.add_argument("author")
    parser.add_argument("--channel", help="the channel; left out, what was revoked for every channel")
    chosen = parser.parse_args(arguments)
    author, channel = _named(chosen, rules)
    with _connection(chosen.database_url) as connection:
        _, found = revocations.restore(connection, author, channel, datetime.now(UTC))
    where = channel or "every channel"
    print(f"restored: {author}: {where}" if found else f"there was no revocation of {author} for {where}")
    return 0 if found else 1


def revocations_command(arguments: Sequence[str], rules: Rules, default_url: str) -> int:
    """Prints the revocations in force, one a line, and returns the exit code.

    Raises:
        StartupError: it cannot be done; the text is one line for the operator.
    """
    chosen = _parser("revocations", "Lists whose access is revoked now.", default_url).parse_args(arguments)
    known = revocations.RevocationSet()
    with _connection(chosen.database_url) as connection:
        known.replace(*revocations.read(connection))
    for each in known.listed():
        print(describe(each))
    return 0


def describe(revocation: Revocation) -> str:
    """A revocation on one line, for people."""
    until = "without end" if revocation.until is None else f"until {revocation.until.isoformat(timespec='seconds')}"
    since = revocation.revoked_at.isoformat(timespec="seconds")
    where = revocation.channel_id or "every channel"
    return f"{revocation.author}: {where}, {until}, by {revocation.revoked_by} at {since}"


def _parser(name: str, description: str, default_url: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"server.py {name}", description=description)
    parser.add_argument(
        "--database-url", default=default_url, help="the message log; by default what RAQCOON_DATABASE_URL says"
    )
    return parser


def _named(chosen: argparse.Namespace, rules: Rules) -> tuple[str, str | None]:
    with _clear_errors():
        return rules.author(chosen.author), None if chosen.channel is None else rules.channel_id(chosen.channel)


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise StartupError(f"--until {text!r} is not a time such as 2026-11-27T12:00:00Z") from None


@contextmanager
def _clear_errors() -> Iterator[None]:
    try:
        yield
    except BadUserInput as error:
        raise StartupError(str(error)) from None


@contextmanager
def _connection(url: str) -> Iterator[Connection]:
    dialect = dialect_of(url)
    if isinstance(dialect, SqliteDialect) and not dialect.path.is_file():
        raise StartupError(f"there is no SQLite file {dialect.path}")
    engine = dialect.engine(1)
    try:
        with engine.connect() as connection:
            yield connection
    except SQLAlchemyError as error:
        cause = " ".join(str(getattr(error, "orig", None) or error).split())
        if "revocations" in cause:
            cause = "no server of this version has opened it yet"
        raise StartupError(f"the database {dialect.location} cannot be used: {cause}") from error
    finally:
        engine.dispose()
