"""The migrations lead to the tables that the code believes in, leave logging alone, and are run once."""

import logging
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from alembic import command
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


def test_migrations_wait_for_a_node_that_posts_and_never_deadlock_with_it(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old node still posts while a new one migrates from the first version to the newest."""
    dialect = dialect_of(postgres_url)
    engine = dialect.engine(2)
    with engine.connect() as connection, monkeypatch.context() as patch:
        upgrade = command.upgrade
        patch.setattr(command, "upgrade", lambda config, revision: upgrade(config, "0001"))
        dialect.begin_migration(connection)
        migrate(connection, dialect.location)
        connection.exec_driver_sql("COMMIT")

    def run() -> None:
        with engine.connect() as connection:
            dialect.begin_migration(connection)
            migrate(connection, dialect.location)
            connection.exec_driver_sql("COMMIT")
            assert compare_metadata(MigrationContext.configure(connection), metadata) == []

    waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with psycopg.connect(postgres_url) as old, psycopg.connect(postgres_url, autocommit=True) as admin:
        old.execute("INSERT INTO writers VALUES ('old', 1, 1)")
        with ThreadPoolExecutor() as threads:
            migrating = threads.submit(run)
            while not migrating.done() and admin.execute(waits).fetchone() is None:
                time.sleep(0.01)
            old.execute("INSERT INTO channels VALUES ('general', 1)")
            old.commit()
            migrating.result()
        assert admin.execute("SELECT channel_id, last_sequence FROM channels").fetchall() == [("general", 1)]
    engine.dispose()


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
