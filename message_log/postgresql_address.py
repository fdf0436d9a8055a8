"""Where a PostgreSQL database is: its URL, as what libpq connects with and as what people may be shown."""

import re
from typing import Any

from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from errors import StartupError

_SEVERAL_HOSTS = re.compile(r"(?P<before>[a-z0-9+]+://(?:[^/?#]*@)?)(?P<hosts>[^/?#@]*,[^/?#@]*)(?P<behind>.*)", re.S)
_HOST = re.compile(r"(?P<host>\[[^\]]*\]|[^:]*)(?::(?P<port>\d*))?")
_UNREADABLE = "cannot be read; write postgresql://user:password@host:port/name"
_PRIMARY = ("read-write", "primary")

CONNECT_ARGUMENTS: dict[str, Any] = {
    "application_name": "raqcoon",
    "client_encoding": "utf8",
    "connect_timeout": 2,  # seconds, libpq's least; for each host
    "keepalives": 1,
    "keepalives_idle": 2,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 4_000,  # ms
    "target_session_attrs": "read-write",  # with several hosts, the primary: replicas may be read stale
}


class PostgresqlAddress:
    """A URL such as `postgresql://user:password@a:5432,b:5433/name`, of one host or several.

    `arguments` are what psycopg connects with. `location` names hosts and database, never the user or the password.

    Raises:
        StartupError: the URL cannot be used. `setting` is what the text calls it.
    """

    def __init__(self, url: str, setting: str = "the database URL") -> None:
        hosts, ports, single = "", "", url
        if several := _SEVERAL_HOSTS.fullmatch(url):
            # As libpq reads it: a port belongs to the host that it stands behind. SQLAlchemy takes one host here.
            found = [_HOST.fullmatch(each) for each in several["hosts"].split(",")]
            if not all(each and each["host"] for each in found):
                raise StartupError(f"{setting} {_UNREADABLE}")
            hosts = ",".join(each["host"].strip("[]") for each in found if each)
            ports = ",".join(each["port"] or "" for each in found if each)
            single = several["before"] + several["behind"]
        try:
            parsed = make_url(single)
            _, arguments = PGDialect_psycopg().create_connect_args(parsed)  # type: ignore[no-untyped-call]
        except (ArgumentError, ValueError):
            raise StartupError(f"{setting} {_UNREADABLE}") from None
        if parsed.drivername not in ("postgresql", "postgres"):
            raise StartupError(f"{setting} must begin with postgresql://, not {parsed.drivername}://")
        if hosts:
            arguments["host"] = hosts
            if ports.strip(","):
                arguments["port"] = ports
        self.arguments: dict[str, Any] = {**CONNECT_ARGUMENTS, **arguments, "autocommit": True}
        if self.arguments["target_session_attrs"] not in _PRIMARY:
            raise StartupError(f"{setting} must have target_session_attrs=read-write: a replica may be read stale")
        self.location = f"postgresql://{_shown(str(arguments.get('host') or 'localhost'), arguments.get('port'))}/"
        self.location += parsed.database or ""


def _shown(hosts: str, ports: object) -> str:
    names = hosts.split(",")
    numbers = str(ports or "").split(",")
    if len(numbers) == 1:
        numbers *= len(names)  # libpq: one port is every host's
    bracketed = (f"[{name}]" if ":" in name else name for name in names)
    return ",".join(f"{name}:{port}" if port else name for name, port in zip(bracketed, numbers, strict=False))
