"""What `/openapi.json` says in addition to what FastAPI writes: limits, refusals, and how a token is sent.

Clients are generated from it. A test generates two of them and uses them.
"""

from typing import Annotated, Any, cast

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, Field
from pydantic.config import JsonDict, JsonValue
from pydantic.json_schema import SkipJsonSchema

from messages import AUTHOR_CHARACTERS_MAX
from resolvers.chat import Chat

# The limits as generated clients read them. `resolvers.input_rules` enforces them, for all transports alike.
NAME: dict[str, JsonValue] = {"minLength": 1, "maxLength": AUTHOR_CHARACTERS_MAX}
CHANNEL_ID: dict[str, JsonValue] = {**NAME, "pattern": r"^[^\s/\x00-\x1f\x7f-\x9f]+$"}


def or_null(**limits: object) -> JsonDict:
    """The JSON schema of a member that may be null. The limits hold for any other value."""
    return cast(JsonDict, {"anyOf": [limits, {"type": "null"}]})


def _optional(schema: JsonDict) -> None:
    """Makes a member one that may be absent, and that is never null."""
    del schema["default"]


class Refusal(BaseModel):
    """Why a request was refused; `code` is for programs."""

    detail: str
    code: str


class Expired(Refusal):
    """Refused because `after` is too old."""

    resume_cursor: str = Field(description="Pass it as `after`: then nothing more is lost.")


class Conflict(Refusal):
    """Refused because of what has happened to the message since the client saw it."""

    revision: Annotated[int, Field(ge=0)] | SkipJsonSchema[None] = Field(
        None,
        description="The revision that the message has. It is there if `code` is `REVISION_CONFLICT`.",
        json_schema_extra=_optional,
    )


_RETRY_AFTER = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 0}}}


def refusals(conflict: type[Refusal] = Refusal, **descriptions: str) -> dict[int | str, dict[str, Any]]:
    """The answers of a call besides 200 and 422. `status_409="Why."` describes the answer 409.

    The answers that every call may give are added. `conflict` is the body of a 409.
    """
    told = {
        "status_401": "A valid token is required.",
        "status_403": "The token, or the origin of the page, does not allow this.",
        "status_429": "Too many connections from this address.",
        "status_503": "The log cannot be reached, or the server is shutting down or full.",
        **descriptions,
    }
    bodies = {409: conflict, 410: Expired}
    answers: dict[int | str, dict[str, Any]] = {}
    for name, description in sorted(told.items()):
        status = int(name.removeprefix("status_"))
        answers[status] = {"description": description, "model": bodies.get(status, Refusal)}
        if status in (429, 503):
            answers[status]["headers"] = _RETRY_AFTER
    return answers


def described(app: FastAPI, chat: Chat, *, open_to_all: bool) -> dict[str, Any]:
    """The OpenAPI description, with what FastAPI cannot know: the content's limit, and how a token is sent."""
    if app.openapi_schema is None:
        description = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        parts = description["components"]
        for body in ("Post", "Edit"):
            parts["schemas"][body]["properties"]["content"]["maxLength"] = chat.content_bytes_max
        parts["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
            "cookie": {
                "type": "apiKey",
                "in": "cookie",
                "name": "raqcoon_token",
                "description": "For browsers. The setting RAQCOON_JWT_COOKIE gives it another name.",
            },
        }
        # An empty requirement says that a call works without a token.
        description["security"] = [*([{}] if open_to_all else []), {"bearer": []}, {"cookie": []}]
        description["paths"]["/api/health"]["get"]["security"] = []
        app.openapi_schema = description
    return app.openapi_schema
