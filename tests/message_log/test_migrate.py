"""The migrations lead to the tables that the code believes in, leave logging alone, and are run once."""

import logging

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from message_log.migrate import migrate
from message_log.sql import dialect_of
from message_log.tables import metadata


def test_migrated_database_has_the_tables_of_the_code(log_url: str) -> None:
    dialect = dialect_of(log_url)
    dialect.claim()
    engine = dialect.engine(1)
    with engine.connect() as connection:
        dialect.begin_migration(connection)
        epoch = migrate(connection, dialect.location)
        connection.exec_driver_sql("COMMIT")
        dialect.begin_migration(connection)
        assert migrate(connection, dialect.location) == epoch
        connection.exec_driver_sql("COMMIT")
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()
    dialect.release()


def test_failed_migration_leaves_nothing_behind(log_url: str) -> None:
    dialect = dialect_of(log_url)
    dialect.claim()
    engine = dialect.engine(1)
    with engine.connect() as connection:
        dialect.begin_migration(connection)
        migrate(connection, dialect.location)
        connection.exec_driver_sql("ROLLBACK")
        assert compare_metadata(MigrationContext.configure(connection), metadata) != []
        assert not connection.dialect.has_table(connection, "messages")
    engine.dispose()
    dialect.release()


def test_migrating_leaves_logging_as_it_was(log_url: str) -> None:
    handlers, level = list(logging.getLogger().handlers), logging.getLogger().level
    logger = logging.getLogger("raqcoon.test")
    test_migrated_database_has_the_tables_of_the_code(log_url)
    assert (logging.getLogger().handlers, logging.getLogger().level) == (handlers, level)
    assert not logger.disabled
