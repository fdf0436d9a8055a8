"""What `/openapi.json` says beyond FastAPI's own: limits as JSON schema, refusals, and how a token is sent.

Generated clients are made from it; a test makes two of them and uses them.
"""

from typing import Any, cast

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, Field
from pydantic.config import JsonDict, JsonValue

from messages import AUTHOR_CHARACTERS_MAX
from resolvers.chat import Chat

# The limits as generated clients read them. `resolvers.input_rules` enforces them, for all transports alike.
NAME: dict[str, JsonValue] = {"minLength": 1, "maxLength": AUTHOR_CHARACTERS_MAX}
CHANNEL_ID: dict[str, JsonValue] = {**NAME, "pattern": r"^[^\s/\x00-\x1f\x7f-\x9f]+$"}


def or_null(**limits: object) -> JsonDict:
    """The JSON schema of a member that may be null. The limits hold for any other value."""
    return cast(JsonDict, {"anyOf": [limits, {"type": "null"}]})


class Refusal(BaseModel):
    """Why a request was refused; `code` is for programs."""

    detail: str
    code: str


class Expired(Refusal):
    resume_cursor: str = Field(description="Passed as `after`, nothing more is lost.")


_RETRY_AFTER = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 0}}}


def refusals(**descriptions: str) -> dict[int | str, dict[str, Any]]:
    """The answers of a call besides 200 and 422, by `status_…`. The answers that every call may give are added."""
    told = {
        "status_401": "A valid token is required.",
        "status_403": "This may not be done with this token, or not from this origin.",
        "status_429": "Too many connections from this address.",
        "status_503": "The log cannot be reached, or the server is shutting down or full.",
        **descriptions,
    }
    answers: dict[int | str, dict[str, Any]] = {}
    for name, description in sorted(told.items()):
        status = int(name.removeprefix("status_"))
        answers[status] = {"description": description, "model": Expired if status == 410 else Refusal}
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
                "description": "For browsers; RAQCOON_JWT_COOKIE gives it another name.",
            },
        }
        # An empty requirement says that a call works without a token.
        description["security"] = [*([{}] if open_to_all else []), {"bearer": []}, {"cookie": []}]
        description["paths"]["/api/health"]["get"]["security"] = []
        app.openapi_schema = description
    return app.openapi_schema
