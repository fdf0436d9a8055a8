"""URLs of PostgreSQL: of one host and of several, what is shown of them, and what is refused."""

import pytest

from errors import StartupError
from message_log.postgresql_address import PostgresqlAddress
from message_log.sql import SqlMessageLog


@pytest.mark.parametrize(
    ("url", "host", "port", "location"),
    [
        ("postgresql://u:p@db/name", "db", None, "postgresql://db/name"),
        ("postgresql://u:p@db:6432/name", "db", "6432", "postgresql://db:6432/name"),
        ("postgres://db/name", "db", None, "postgresql://db/name"),
        ("postgresql://u:p@a,b,c/name", "a,b,c", None, "postgresql://a,b,c/name"),
        ("postgresql://u:p@a:1,b:2/name", "a,b", "1,2", "postgresql://a:1,b:2/name"),
        ("postgresql://u:p@a,b:2/name", "a,b", ",2", "postgresql://a,b:2/name"),
        ("postgresql://u:p,q@a,[::1]:2/name", "a,::1", ",2", "postgresql://a,[::1]:2/name"),
        ("postgresql://u@/name?host=a:1&host=b:2", "a,b", "1,2", "postgresql://a:1,b:2/name"),
        ("postgresql:///name?host=/run/postgresql", "/run/postgresql", None, "postgresql:///run/postgresql/name"),
    ],
)
def test_address_names_hosts_as_libpq_does(url: str, host: str, port: str | None, location: str) -> None:
    address = PostgresqlAddress(f"{url}{'&' if '?' in url else '?'}target_session_attrs=read-write")
    assert address.arguments["host"] == host
    assert str(address.arguments.get("port") or "") == (port or "")
    assert address.arguments["target_session_attrs"] == "read-write"
    assert address.arguments["dbname"] == "name"
    assert address.location == location


def test_address_takes_the_primary_alone() -> None:
    assert PostgresqlAddress("postgresql://a,b/name").arguments["target_session_attrs"] == "read-write"
    PostgresqlAddress("postgresql://a,b/name?target_session_attrs=primary")
    with pytest.raises(StartupError, match="RAQCOON_NOTIFY_URL must have target_session_attrs=read-write"):
        PostgresqlAddress("postgresql://a,b/name?target_session_attrs=any", "RAQCOON_NOTIFY_URL")


@pytest.mark.parametrize("url", ["postgresql://u:secret@a:x/name", "postgresql://u:secret@a,,b/name", "secret", ""])
def test_address_that_cannot_be_read_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(StartupError) as refused:
        PostgresqlAddress(url)
    assert "secret" not in str(refused.value)


def test_notify_url_of_another_kind_is_refused() -> None:
    with pytest.raises(StartupError, match="RAQCOON_NOTIFY_URL must begin with postgresql://"):
        SqlMessageLog("postgresql://a/name", notify_url="sqlite:///x")
    with pytest.raises(StartupError, match="only PostgreSQL has hints"):
        SqlMessageLog("sqlite:///x", notify_url="postgresql://a/name")
