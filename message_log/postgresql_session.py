"""A session of PostgreSQL: the limits that it works under, and whether it has ended."""

from typing import Any

import psycopg

Driver = psycopg.Connection[tuple[Any, ...]]

_LIMITS = """
SELECT set_config('lock_timeout', '2s', {local}),
    set_config('statement_timeout', '4s', {local}),
    set_config('idle_in_transaction_session_timeout', '5s', {local}),
    set_config('jit', 'off', {local}),
    set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on'
        ELSE current_setting('synchronous_commit') END, {local})
"""
OF_SESSION = _LIMITS.format(local="false") + ", set_config('default_transaction_isolation', 'read committed', false)"
OF_TRANSACTION = _LIMITS.format(local="true")
BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
READ_ONLY = "25006"
"""What a primary answers to a write once it has become a standby."""


def is_pooled(connection: Driver) -> bool:
    """Whether there is a pooler in between, so that the next transaction may be run by another session.

    PostgreSQL says at the start which process serves the connection; a pooler tells another number.
    """
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    return row is None or row[0] != connection.info.backend_pid


def ended_session(error: psycopg.Error) -> bool:
    """Whether the session has ended, or can only be replaced by a new one.

    An error without a SQLSTATE comes from this side of the connection and says nothing about the transaction. A FATAL
    error has ended the session, although the socket may not show it yet. Any other error is a refusal by the server.
    """
    if error.sqlstate is None:
        return not isinstance(error, psycopg.DataError)  # refused by the driver, before it was sent
    return error.diag.severity_nonlocalized in ("FATAL", "PANIC") or error.sqlstate == READ_ONLY
