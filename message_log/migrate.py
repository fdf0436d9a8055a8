"""Brings a database to the newest schema, and gives a new one its epoch."""

import uuid
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy import Connection, inspect, select

from errors import StartupError
from message_log.tables import log_info

_SCRIPTS = Path(__file__).parent / "migrations"


def migrate(connection: Connection, location: str) -> str:
    """Runs the migrations that are missing, inside the caller's transaction, and returns the log's epoch.

    Raises:
        StartupError: the database belongs to something else, or to a newer version of this server.
    """
    tables = set(inspect(connection).get_table_names())
    if "messages" in tables and "alembic_version" not in tables:
        raise StartupError(
            f"{location} holds another program's messages (the earlier server's, perhaps): "
            "copy them into a new log with `server.py copy`"
        )
    # Configured here and not by an alembic.ini: the logging section of that file would replace the server's logging.
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise StartupError(f"{location} was written by a newer version of this server ({error})") from None
    epoch = connection.scalar(select(log_info.c.epoch))
    if epoch is None:
        epoch = uuid.uuid4().hex
        connection.execute(log_info.insert().values(id=1, epoch=epoch))
    return str(epoch)
