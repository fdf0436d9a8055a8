"""`server.py new-epoch DATABASE_URL`: to be run on a log that was restored from an older backup.

Between the backup and the loss of the database, clients got messages and cursors that the restored log does not have.
Its next posts would get the same sequences again, and a client that resumes after such a cursor would miss them without
notice. A new epoch makes all earlier cursors invalid: clients are told `CURSOR_INVALID`, and load the channel again.
"""

import argparse
import uuid
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from errors import StartupError
from message_log.copy import open_database
from message_log.tables import log_info


def new_epoch(url: str) -> str:
    """Gives the log at `url` a new epoch and returns it. No server may use the log meanwhile.

    Raises:
        StartupError: there is no such database, a running server holds it, or it cannot be used.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        parsed = None  # `open_database` says what is wrong with it
    if parsed is not None and parsed.drivername == "sqlite" and not Path(parsed.database or "").expanduser().is_file():
        raise StartupError(f"there is no SQLite file {parsed.database}")
    database = open_database(url)
    try:
        epoch = uuid.uuid4().hex
        database.connection.execute(update(log_info).values(epoch=epoch))
    finally:
        database.close()
    return epoch


def new_epoch_command(arguments: Sequence[str]) -> int:
    """Runs the command and returns the exit code.

    Raises:
        StartupError: it cannot be done; the text is one line for the operator.
    """
    parser = argparse.ArgumentParser(
        prog="server.py new-epoch",
        description="Makes every cursor that clients hold invalid. Run it once after restoring an older backup, before "
        "the first server starts: clients then load their channels again, instead of missing messages silently.",
    )
    parser.add_argument("database", help="sqlite:///path or postgresql://…; no server may be running on it")
    chosen = parser.parse_args(arguments)
    print(f"the log has the new epoch {new_epoch(chosen.database)}; cursors of before are invalid now")
    return 0
