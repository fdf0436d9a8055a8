"""Structured logs: request ids, and one line when a connection ends. They never hold content, tokens or addresses."""

import contextvars
import itertools
import json
import logging
import re
import secrets
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Literal

REQUEST_ID_HEADER = b"x-request-id"
# Requests are counted and get no random id: to ask the kernel for randomness took 4 % of a post's time.
_PROCESS = secrets.token_hex(4)
_REQUESTS = itertools.count(1)
PROCESS: dict[str, int | str] = {}
"""Which of a server's processes this is: `worker`, counted from 1, or `process`. Empty when there is only one."""
_ACCEPTABLE = re.compile(rb"[A-Za-z0-9._:-]{1,128}")

REQUEST_ID: contextvars.ContextVar[str | None] = contextvars.ContextVar("request_id", default=None)
"""The id of the request or socket that this code runs for."""

_UNPRINTABLE = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")

logger = logging.getLogger("raqcoon.connections")


def name_process(*, worker: int | None = None, process: str | None = None) -> None:
    """Makes every further line say which of a server's processes wrote it. Called right after the fork."""
    global _PROCESS
    _PROCESS = secrets.token_hex(4)  # Otherwise all forked processes would give the same ids.
    PROCESS.clear()
    PROCESS.update({"worker": worker} if worker is not None else {} if process is None else {"process": process})


def request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The `X-Request-ID` that a proxy or client gave, if it has the form of one; otherwise a new one."""
    for name, value in headers:
        if name == REQUEST_ID_HEADER and _ACCEPTABLE.fullmatch(value):
            return value.decode("ascii")
    return f"{_PROCESS}-{next(_REQUESTS):x}"


def request_id_headers() -> list[tuple[bytes, bytes]]:
    """The header that tells a WebSocket's client the id of its handshake."""
    id_ = REQUEST_ID.get()
    return [] if id_ is None else [(REQUEST_ID_HEADER, id_.encode())]


class ConnectionFigures:
    """What one socket or stream did, for the line at its end. About 100 bytes."""

    __slots__ = ("close_code", "delivered", "kind", "opened_at", "posts", "subscriptions")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.opened_at = time.monotonic()
        self.posts = 0
        self.subscriptions = 0
        self.delivered = 0
        """Messages of subscriptions that have ended."""
        self.close_code: int | None = None
        """The first close code of either side; 1006 when the connection ended without one, None for a stream."""

    def as_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "seconds": round(time.monotonic() - self.opened_at, 3),
            "posts": self.posts,
            "subscriptions": self.subscriptions,
            "delivered": self.delivered,
            "code": self.close_code,
        }

    def log(self) -> None:
        """Writes the line."""
        if logger.isEnabledFor(logging.INFO):
            logger.info("connection ended", extra={"figures": self.as_dict()})


class TextFormatter(logging.Formatter):
    """For people: the message, then figures and request id as `name=value`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        # The message may hold what a client sent, which must not be able to begin a line of its own.
        record.message = _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], record.message)
        pairs = {**getattr(record, "figures", {}), **PROCESS, "request_id": REQUEST_ID.get()}
        shown = "".join(f" {name}={value}" for name, value in pairs.items() if value is not None)
        return super().formatMessage(record) + shown


class JsonFormatter(logging.Formatter):
    """For machines: each line is one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **PROCESS,
            **getattr(record, "figures", {}),
        }
        if (id_ := REQUEST_ID.get()) is not None:
            line["request_id"] = id_
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def log_handler(form: Literal["text", "json"]) -> logging.Handler:
    """A handler that writes to standard error in the form that the operator chose."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    return handler
