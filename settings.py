"""What an operator can set: `RAQCOON_*` environment variables or flags of `server.py`, flags first.

The table in `docs/settings.md` is held equal to this class by a test; each field's description is that table's text.
"""

import difflib
import os
import re
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, CliApp, CliSettingsSource, NoDecode, SettingsConfigDict, SettingsError

VERSION = "0.2.0"
"""The server's version. A test holds it equal to the one in `pyproject.toml`, which an installation need not have."""
T = TypeVar("T")

_PREFIX = "RAQCOON_"
_KINDS = {
    "str": "text",
    "SecretStr": "text",
    "Path": "path",
    "float": "number",
    "int": "number",
    "{int,auto}": "number|auto",
    "tuple[str,...]": "list",
}
"""What `--help` calls a value of each type."""

_ORIGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s/?#@,*]+")


class Settings(BaseSettings):
    """The server's settings, validated. Units are in the names; the defaults suit a laptop."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, extra="ignore", frozen=True, cli_implicit_flags=True, allow_inf_nan=False
    )

    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(8010, ge=0, le=65535, description="TCP port to listen on. 0 picks a free port and prints it.")
    database_url: str = Field(
        "sqlite:///data/raqcoon.db",
        description="Where the message log is: `sqlite:///path` (one server) or `postgresql://…` (any number "
        "of servers).",
    )
    notify_url: str | None = Field(
        None,
        min_length=1,
        description="The direct address of PostgreSQL for `LISTEN` and `NOTIFY`. Needed if "
        "`RAQCOON_DATABASE_URL` is a pooler in transaction mode. If unset, the database URL is "
        "used.",
    )
    workers: Annotated[int, Field(ge=1, le=256)] | Literal["auto"] = Field(
        1,
        description="Number of processes that serve clients at one address. `auto` uses as many as there are "
        "cores that the server may use. More than one needs Linux or macOS "
        "([docs](operating.md#workers)).",
    )
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Browser origins, separated by commas, that may use the server in addition to its own, "
        "e.g. `https://chat.example`.",
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Addresses or networks of proxies, separated by commas, e.g. `10.0.0.0/8`. The server "
        "takes the client's address from their `X-Forwarded-For`.",
    )
    auth: Literal["none", "jwt"] = Field(
        "none",
        description="Who may use the server: `none` allows everybody, `jwt` only clients with a JSON Web Token "
        "([docs](auth.md)).",
    )
    jwt_secret: SecretStr | None = Field(None, description="Secret that tokens are signed with (HS256).")
    jwt_jwks: str | None = Field(
        None, min_length=1, description="Path or URL of the public keys that tokens are verified with (RS256, ES256)."
    )
    jwt_issuer: str | None = Field(
        None, min_length=1, description="The `iss` that tokens must have. If unset, any is accepted."
    )
    jwt_audience: str | None = Field(
        None, min_length=1, description="The `aud` that tokens must name. If unset, any is accepted."
    )
    jwt_cookie: str = Field(
        "raqcoon_token", pattern=r"^[A-Za-z0-9_.-]+$", description="Name of the cookie that may contain the token."
    )
    jwt_jwks_refresh_seconds: float = Field(
        60.0,
        gt=0,
        le=86_400,
        description="How often the public keys are read again. When a key is gone, all that was begun with "
        "its tokens ends.",
    )
    jwt_allow_weak_secret: bool = Field(
        False, description="Allow the server to start with a secret of less than 16 bytes, although it can be guessed."
    )
    jwt_required_claims: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Claims, separated by commas, that tokens must have, e.g. `exp,channels`. `channels` "
        "means any of `channels`, `read` and `post`. If unset, a token without `exp` never ends, "
        "and one without channels is good for every channel.",
    )
    content_bytes_max: int = Field(
        65_536, ge=1, le=1_048_576, description="Maximum length of a message's content, in UTF-8 bytes."
    )
    body_bytes_max: int = Field(
        1_048_576,
        ge=1024,
        description="Maximum length of a request body or WebSocket message, in bytes. It leaves room for JSON escapes.",
    )
    trusted_documents: Path | None = Field(
        None, description="JSON file with GraphQL documents by id. Clients may send the id instead of the document."
    )
    only_trusted_documents: bool = Field(
        False, description="Refuse all GraphQL documents that are not trusted documents."
    )
    slow_subscriber_timeout_seconds: float = Field(
        60.0, gt=0, description="A connection that reads nothing for this long is cut. Its client can resume."
    )
    sweep_interval_seconds: float = Field(
        0.25,
        gt=0,
        le=60,
        description="How often the server looks for new messages in subscribed channels, in case a hint was lost.",
    )
    retention_max_age_seconds: float | None = Field(
        None,
        gt=0,
        le=3.2e9,
        description="Messages older than this are removed in the background. If unset, none are removed for their age.",
    )
    retention_max_messages: int | None = Field(
        None,
        ge=1,
        description="How many messages a channel keeps. Older ones are removed in the background. If unset, "
        "it keeps all.",
    )
    growing_timeout_seconds: float = Field(
        600.0, gt=0, description="A growing message is completed when nobody has appended to it for this long."
    )
    max_connections: int = Field(
        50_000,
        ge=1,
        description="TCP connections at the same time. One more is refused with 503. The limit of open files "
        "may be lower.",
    )
    max_connections_per_address: int = Field(
        20_000,
        ge=1,
        description="TCP connections at the same time from one address (IPv6: one /64). One more is refused with 429.",
    )
    posts_per_second: float | None = Field(
        None,
        ge=0.001,
        le=1e6,
        description="Posts a second for each author and for each address. If unset, there is no limit.",
    )
    max_subscriptions_per_connection: int = Field(100, ge=1, description="Live subscriptions on one WebSocket.")
    max_operations_per_connection: int = Field(
        32,
        ge=1,
        description="Queries and mutations that run at the same time on one WebSocket. While so many run, "
        "the server reads nothing more from it.",
    )
    max_document_characters: int = Field(131_072, ge=1, description="Characters in a GraphQL document.")
    max_document_tokens: int = Field(
        1_000, ge=1, description="Lexical tokens in a GraphQL document. The same limit applies to its comments."
    )
    max_document_aliases: int = Field(30, ge=0, description="Aliases in a GraphQL document.")
    max_document_depth: int = Field(20, ge=1, description="Levels of nested fields in a GraphQL document.")
    max_document_repeats: int = Field(
        50,
        ge=1,
        description="Fields with the same name in a GraphQL document. Validation compares each of them with "
        "each other.",
    )
    max_variables_bytes: int = Field(
        1_048_576,
        ge=2,
        description="Maximum length of an operation's variables, in bytes of JSON. The limit of the body applies too.",
    )
    max_variables_values: int = Field(
        10_000, ge=1, description="Values in the variables of an operation: members of objects and elements of lists."
    )
    max_json_nesting: int = Field(
        1_024,
        ge=8,
        le=1_024,
        description="Levels of nested objects and lists in the JSON of a request or WebSocket message.",
    )
    max_header_bytes: int = Field(
        65_536, ge=1_024, description="Request line and headers of a request together, in bytes."
    )
    max_unfinished_bytes: int = Field(
        268_435_456,
        ge=1_048_576,
        description="Bytes of incomplete requests and WebSocket messages that all connections of a process "
        "may hold together.",
    )
    header_timeout_seconds: float = Field(
        10.0,
        gt=0,
        description="Time from a new connection, or from the first byte of a request, to the end of its headers.",
    )
    request_timeout_seconds: float = Field(
        60.0, gt=0, description="Time from the first byte of a request to the end of its body."
    )
    init_timeout_seconds: float = Field(
        3.0,
        gt=0,
        description="Time from the handshake of a GraphQL WebSocket until its `connection_init` is acknowledged.",
    )
    max_cohorts: int = Field(
        10_000,
        ge=1,
        description="Different subscription operations that share executions. Above the limit, each runs alone.",
    )
    max_cohorts_per_channel: int = Field(
        1_000,
        ge=1,
        description="Different documents, and also different filters, among the subscriptions of one channel.",
    )
    max_cohorts_per_client: int = Field(
        100,
        ge=1,
        description="Different documents, and also different filters, that one client (user and address) "
        "opens in one channel.",
    )
    websocket_compression: bool = Field(
        False,
        description="Use permessage-deflate. There is less traffic, but each connection costs 36 to 85 KiB "
        "and its own encoding.",
    )
    drain_seconds: float = Field(
        10.0,
        ge=0,
        description="After SIGTERM, the time in which connections are closed step by step. Then the rest is cut.",
    )
    drain_sockets_per_second: int = Field(
        1000,
        ge=1,
        description="How many WebSockets a draining server closes a second. It closes more if the time would "
        "not be enough.",
    )
    log_level: Literal["critical", "error", "warning", "info", "debug"] = Field(
        "info", description="How much the server writes to standard error."
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="`text` writes log lines for people, `json` one JSON object a line."
    )
    keepalive_seconds: float = Field(
        20.0,
        gt=0,
        description="How often a WebSocket gets a ping. It is cut if nothing comes from it before the next ping.",
    )
    metrics: bool = Field(True, description="Serve `/metrics` for Prometheus. No label contains what a client sent.")
    tracing: bool = Field(
        False,
        description="Make OpenTelemetry spans from post to delivery. It needs `opentelemetry-sdk`, which "
        "`OTEL_*` variables configure.",
    )

    def part(self, of_type: type[T], **given: Any) -> T:
        """An instance of the dataclass `of_type`, filled from the settings that its fields name.

        A field names its setting by `field(default=…, metadata={"setting": "max_document_tokens"})`. So a new setting
        is written down in two places: here, and in the part that obeys it. Fields in `given` are taken as they are;
        every other field keeps its default.

        Raises:
            AttributeError: a field names a setting that there is not.
        """
        named = {each.name: each.metadata["setting"] for each in fields(of_type) if "setting" in each.metadata}  # type: ignore[arg-type]
        return of_type(**{name: getattr(self, setting) for name, setting in named.items()} | given)

    @field_validator("allowed_origins", "trusted_proxies", "jwt_required_claims", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("allowed_origins")
    @classmethod
    def _are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is not an origin such as https://chat.example or http://localhost:3000")
        return origins

    @field_validator("workers", mode="before")
    @classmethod
    def _is_number_or_auto(cls, value: object) -> object:
        if isinstance(value, str) and value != "auto" and not value.strip().lstrip("+-").isdigit():
            raise ValueError("Input should be a number of processes, or 'auto'")
        return value

    @property
    def worker_count(self) -> int:
        """`workers` as a number: `auto` is the cores that this process may use."""
        if self.workers != "auto":
            return self.workers
        allowed = getattr(os, "sched_getaffinity", None)
        return max(1, len(allowed(0)) if allowed is not None else os.cpu_count() or 1)


def unknown_variables(environment: dict[str, str] | None = None) -> list[str]:
    """One warning for each `RAQCOON_*` variable that no setting reads, with the name that may have been meant."""
    names = {_PREFIX + name.upper() for name in Settings.model_fields}
    warnings = []
    for name in sorted(os.environ if environment is None else environment):
        if name.upper().startswith(_PREFIX) and name.upper() not in names and not name.startswith("RAQCOON_TEST_"):
            close = difflib.get_close_matches(name.upper(), names, n=1)
            warnings.append(f"unknown setting {name} is ignored" + (f"; did you mean {close[0]}?" if close else ""))
    return warnings


def parse_settings(arguments: Sequence[str], *, commands_help: str | None = None) -> Settings:
    """The settings of these command-line flags (`--port 8011`), and of the environment where a flag is absent.

    `commands_help` is printed by `--help` after the flags.

    Raises:
        pydantic.ValidationError: a value cannot be used.
        pydantic_settings.SettingsError: a value is not of its type's form at all.
        SystemExit: `--help` or `--version`.
    """
    parser = _Parser(
        prog="server.py",
        description="Serves channels over GraphQL. Each flag is also an environment variable: --port is RAQCOON_PORT.",
        epilog=commands_help,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"raqcoon {VERSION}")
    return CliApp.run(
        Settings,
        cli_args=list(arguments),
        cli_settings_source=CliSettingsSource[ArgumentParser](
            Settings, root_parser=parser, cli_kebab_case=True, add_argument_method=_add_flag
        ),
    )


def _add_flag(parser: ArgumentParser, *names: str, **options: Any) -> Any:
    """Adds a flag whose help is for people: no Python types, no links of the page of settings, no `null`."""
    if options.get("metavar"):
        kind = re.sub(r"^\{(.+),null\}$", r"\1", options["metavar"])
        options["metavar"] = _KINDS.get(kind, kind)
    if options.get("help"):
        options["help"] = re.sub(r" \(\[docs\]\((\S+?)(#\S*?)?\)\)", r" (see docs/\1)", options["help"]).removesuffix(
            " (default: null)"
        )
    return parser.add_argument(*names, **options)


class _Parser(ArgumentParser):
    """Says what is wrong with a flag in one line, without all the flags there are."""

    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message}; --help lists the flags and commands")
