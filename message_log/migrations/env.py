"""Runs the migrations on the connection and inside the transaction that `message_log.migrate` hands over."""

from alembic import context

from message_log.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
