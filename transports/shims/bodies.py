"""The bodies of REST calls and of their answers, as FastAPI checks and describes them."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from messages import LANE_CHARACTERS_MAX, PROVIDER_CHARACTERS_MAX, SEQUENCE_MAX, TOKEN_COUNT_MAX
from transports.shims.openapi import CHANNEL_ID, NAME, or_null


def _number(value: object) -> object:
    """Accepts only what JSON calls a number, also 5.0. Pydantic alone would also turn true and "5" into numbers."""
    if isinstance(value, bool | str):
        raise PydanticCustomError("int_type", "Input should be a valid integer")
    return value


class Post(BaseModel):
    """A message to post."""

    channel_id: str = Field(
        description="1 to 128 characters; no white space, no `/`, no control characters.", json_schema_extra=CHANNEL_ID
    )
    author: str = Field(description="1 to 128 characters.", json_schema_extra=NAME)
    content: str = Field(
        description="1 to 65,536 bytes of UTF-8, unless the server has another limit.",
        json_schema_extra={"minLength": 1},
    )
    lane: str | None = Field(
        None,
        description="Up to 64 characters. The empty string becomes null.",
        json_schema_extra=or_null(type="string", maxLength=LANE_CHARACTERS_MAX),
    )
    provider: str | None = Field(
        None,
        description="Up to 64 characters. The empty string becomes null.",
        json_schema_extra=or_null(type="string", maxLength=PROVIDER_CHARACTERS_MAX),
    )
    token_count: Annotated[int | None, BeforeValidator(_number)] = Field(
        None,
        description="0 to 2,147,483,647.",
        json_schema_extra=or_null(type="integer", minimum=0, maximum=TOKEN_COUNT_MAX),
    )
    idempotency_key: str | None = Field(
        None,
        description="1 to 128 characters. The header `Idempotency-Key` does the same. A repeat with the same key posts "
        "nothing and is answered with the first message.",
        json_schema_extra=or_null(type="string", **NAME),
    )
    complete: bool | None = Field(None, description="Send false if the message is to grow by `…/append`.", strict=True)


class Edit(BaseModel):
    """The new content of a message."""

    content: str = Field(
        description="The whole new content: 1 to 65,536 bytes of UTF-8, unless the server has another limit.",
        json_schema_extra={"minLength": 1},
    )
    revision: Annotated[int | None, BeforeValidator(_number)] = Field(
        None,
        description="The revision that the caller has seen. If the message has another one, the answer is 409. If "
        "this is left out, revisions are not compared.",
        json_schema_extra=or_null(type="integer", minimum=0),
    )


class Append(BaseModel):
    """A piece that is appended to the content of a message."""

    revision: Annotated[int, BeforeValidator(_number)] = Field(
        description="The revision that the caller has seen. If the message has another one, the answer is 409.",
        json_schema_extra={"minimum": 0},
    )
    piece: str = Field(description="The text to append; at least one byte.", json_schema_extra={"minLength": 1})
    token_count: Annotated[int | None, BeforeValidator(_number)] = Field(
        None,
        description="Tokens of the whole content, with this piece. If it is left out, the number stays as it is.",
        json_schema_extra=or_null(type="integer", minimum=0, maximum=TOKEN_COUNT_MAX),
    )
    complete: bool | None = Field(None, description="Send true if this is the last piece.", strict=True)


class Item(BaseModel):
    """A message as stored."""

    channel_id: str
    author: str
    content: str
    timestamp: str = Field(
        description="When the log accepted it: ISO 8601, in UTC, with six digits after the second.",
        json_schema_extra={"format": "date-time"},
    )
    lane: str | None
    provider: str | None
    token_count: int | None
    id: str
    sequence: int = Field(
        description="Its number in its channel: 1, 2, 3 … without gaps.",
        json_schema_extra={"format": "int64", "minimum": 1, "maximum": SEQUENCE_MAX},
    )
    cursor: str = Field(description="Pass it as `after`.")
    revision: int = Field(description="How often it was changed. 0 means: as it was posted.")
    complete: bool = Field(description="False while it may still grow.")
    edited_at: str | None = Field(description="When it was last edited. Null if it was never edited.")
    erased_at: str | None = Field(description="When it was erased. Null if it was not erased.")


class Posted(BaseModel):
    success: bool
    message: Item


class Messages(BaseModel):
    messages: list[Item]


class Channels(BaseModel):
    channels: list[str]


class Totals(BaseModel):
    total_messages: int = Field(json_schema_extra={"format": "int64", "minimum": 0})
    total_tokens: int = Field(json_schema_extra={"format": "int64", "minimum": 0})
    by_provider: dict[str, int] = Field(
        description="Number of messages by provider. Messages without a provider are not counted here."
    )
    by_lane: dict[str, int] = Field(
        description="Number of messages by lane. Messages without a lane are not counted here."
    )


class Summary(BaseModel):
    summary: Totals


class Health(BaseModel):
    status: str
