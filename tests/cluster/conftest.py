"""The databases of clusters: PostgreSQL directly, and behind a pooler in transaction mode."""

from collections.abc import Iterator

import pytest
from sqlalchemy import make_url

from tests.cluster.pgbouncer import pgbouncer


@pytest.fixture(scope="session")
def pooler(postgres_server: str) -> Iterator[str]:
    """PgBouncer in front of the tests' PostgreSQL. Its URL names the server's own database."""
    with pgbouncer(postgres_server) as url:
        yield url


@pytest.fixture(params=["direct", "pgbouncer"])
def database(request: pytest.FixtureRequest, postgres_url: str) -> dict[str, object]:
    """The settings of a node for the empty database of `postgres_url`: directly, and through PgBouncer."""
    if request.param == "direct":
        return {"database_url": postgres_url}
    through = make_url(request.getfixturevalue("pooler")).set(database=make_url(postgres_url).database)
    return {"database_url": through.render_as_string(hide_password=False), "notify_url": postgres_url}
