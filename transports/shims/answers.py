"""How REST calls are answered: JSON, and what stands for an error."""

from typing import Any

from fastapi import Response

from errors import (
    BadUserInput,
    CursorExpired,
    CursorInvalid,
    RaqcoonError,
    RetryLater,
    RevisionConflict,
    Unauthenticated,
)
from transports.wire.http_exchange import OURS_ALONE, Headers, encode_body, retry_after

_FIELDS = {
    "channelId": "channel_id",
    "tokenCount": "token_count",
    "idempotencyKey": "idempotency_key",
}


def json_response(body: bytes, status: int = 200, headers: Headers | None = None) -> Response:
    """A response with JSON that is encoded already, for this origin alone."""
    response = Response(body, status, media_type="application/json")
    response.raw_headers += [*OURS_ALONE, *(headers or [])]
    return response


def validation_detail(problems: Any, place: str | None = None) -> bytes:
    """FastAPI's body of a 422. What was sent is not sent back: it may be long, or no Unicode."""
    return encode_body(
        {
            "detail": [
                {
                    "type": problem["type"],
                    "loc": [*((place,) if place else ()), *problem["loc"]],
                    "msg": problem["msg"],
                }
                for problem in problems
            ]
        }
    )


def error_answer(error: RaqcoonError, place: str) -> tuple[int, bytes, Headers]:
    """Status, body and headers that stand for an error; `place` is where its argument came from."""
    if isinstance(error, BadUserInput | CursorInvalid):
        name = _FIELDS.get(error.argument, error.argument)
        place = "path" if name == "id" else place  # Only the calls that change a message name one, in their path.
        location = [place] if name == place else [place, name]
        detail: Any = [{"type": "value_error", "loc": location, "msg": f"{name} {error.problem}"}]
        return error.http_status, encode_body({"detail": detail}), []
    headers: Headers = []
    if isinstance(error, RetryLater):
        headers.append(retry_after(error))
    elif isinstance(error, Unauthenticated):
        headers.append((b"www-authenticate", b"Bearer"))
    answer: dict[str, Any] = {"detail": str(error), "code": error.code}
    if isinstance(error, CursorExpired):
        answer["resume_cursor"] = error.resume_cursor
    elif isinstance(error, RevisionConflict):
        answer["revision"] = error.revision
    return error.http_status, encode_body(answer), headers
