"""What an operator can set: `RAQCOON_*` environment variables or flags of `server.py`, flags first.

The README's table is held equal to this class by a test; each field's description is that table's text.
"""

import difflib
import os
from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

_PREFIX = "RAQCOON_"


class Settings(BaseSettings):
    """The server's settings, validated. Units are in the names; the defaults suit a laptop."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, extra="ignore", frozen=True)

    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(8010, ge=0, le=65535, description="TCP port to listen on; 0 picks a free one and prints it.")
    database_url: str = Field(
        "sqlite:///data/raqcoon.db",
        description="The message log: `sqlite:///path` (one server) or `postgresql://…` (any number of servers).",
    )
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Browser origins, separated by commas, that may use the server besides its own, "
        "e.g. `https://chat.example`.",
    )
    content_bytes_max: int = Field(65_536, ge=1, le=1_048_576, description="Longest message content, in UTF-8 bytes.")
    body_bytes_max: int = Field(
        1_048_576, ge=1024, description="Longest request body or WebSocket message, in bytes (room for JSON escapes)."
    )
    slow_subscriber_timeout_seconds: float = Field(
        60.0, gt=0, description="A connection that takes nothing for this long is cut; its client resumes elsewhere."
    )
    sweep_interval_seconds: float = Field(
        0.25, gt=0, le=60, description="How often the heads of subscribed channels are read, in case a hint was lost."
    )
    max_subscriptions_per_connection: int = Field(100, ge=1, description="Live subscriptions on one WebSocket.")
    max_cohorts: int = Field(
        10_000, ge=1, description="Distinct subscription operations that share executions; past it each runs alone."
    )
    websocket_compression: bool = Field(
        False, description="permessage-deflate: less traffic, but 36 to 85 KiB and an encoding per connection."
    )
    drain_seconds: float = Field(
        10.0, ge=0, description="On SIGTERM, the time in which connections are closed in paced steps before the rest is cut."
    )
    log_level: Literal["critical", "error", "warning", "info", "debug"] = Field(
        "info", description="How much the server tells on standard error."
    )


def unknown_variables(environment: dict[str, str] | None = None) -> list[str]:
    """One warning for each `RAQCOON_*` variable that no setting reads, with the name that may have been meant."""
    names = {_PREFIX + name.upper() for name in Settings.model_fields}
    warnings = []
    for name in sorted(os.environ if environment is None else environment):
        if name.upper().startswith(_PREFIX) and name.upper() not in names and not name.startswith("RAQCOON_TEST_"):
            close = difflib.get_close_matches(name.upper(), names, n=1)
            warnings.append(f"unknown setting {name} is ignored" + (f"; did you mean {close[0]}?" if close else ""))
    return warnings
