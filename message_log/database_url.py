"""Which database a URL names."""

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from errors import StartupError
from message_log.dialect import Dialect
from message_log.postgresql import PostgresqlDialect
from message_log.sqlite import SqliteDialect


def dialect_of(url: str, notify_url: str | None = None) -> Dialect:
    """What speaks to the database at `url`.

    Raises:
        StartupError: the URL cannot be read or names no database that is supported.
    """
    scheme = url.partition("://")[0]
    if scheme in ("postgresql", "postgres"):
        return PostgresqlDialect(url, notify_url)
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise StartupError("the database URL cannot be read; write sqlite:///path or postgresql://host/name") from None
    if parsed.drivername != "sqlite":
        raise StartupError(f"{scheme}:// is not supported; write sqlite:///path or postgresql://host/name")
    if notify_url:
        raise StartupError("RAQCOON_NOTIFY_URL is set, but the message log is a SQLite file: only PostgreSQL has hints")
    return SqliteDialect(parsed)
