"""PgBouncer in transaction mode in front of a test's PostgreSQL, as it is usually run."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import make_url

from tests.server_process import free_port

START_SECONDS = 10.0
POOL_CONNECTIONS = 4
"""Fewer connections than one node opens, so that transactions must share them in any order."""


@contextmanager
def pgbouncer(database_url: str) -> Iterator[str]:
    """The URL of the database through its own PgBouncer, in transaction mode."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    assert program is not None, "pgbouncer is missing: apt-get install pgbouncer"
    url = make_url(database_url)
    socket_directory = url.query.get("host")
    host = socket_directory if isinstance(socket_directory, str) else url.host
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="raqcoon-pgbouncer-") as directory:
        settings = Path(directory) / "pgbouncer.ini"
        settings.write_text(f"""
[databases]
* = host={host} port={url.port or 5432} user={url.username}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {POOL_CONNECTIONS}
max_client_conn = 200
logfile = {directory}/log
""")
        command = [program, "-q", str(settings)]
        if os.geteuid() == 0:  # It refuses to run as root, and only the owner of the database can open the socket.
            owner = Path(host).stat().st_uid if isinstance(socket_directory, str) else pwd.getpwnam("nobody").pw_uid
            os.chmod(directory, 0o755)
            os.chown(directory, owner, -1)
            command[1:1] = ["-u", pwd.getpwuid(owner).pw_name]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _await_port(port, process, Path(directory) / "log")
            through = url.set(host="127.0.0.1", port=port).difference_update_query(["host", "port"])
            yield through.render_as_string(hide_password=False)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def _await_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    give_up = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(log.read_text() if log.exists() else "pgbouncer did not start") from None
            time.sleep(0.02)
