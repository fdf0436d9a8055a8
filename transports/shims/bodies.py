"""What bodies of REST calls and of their answers hold, as FastAPI checks and describes them."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from messages import LANE_CHARACTERS_MAX, PROVIDER_CHARACTERS_MAX, SEQUENCE_MAX, TOKEN_COUNT_MAX
from transports.shims.openapi import CHANNEL_ID, NAME, or_null


def _number(value: object) -> object:
    """Lets pass what JSON calls a number, 5.0 too; pydantic would also make one of true and "5"."""
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
        description="1 to 65,536 bytes of UTF-8, unless set otherwise.", json_schema_extra={"minLength": 1}
    )
    lane: str | None = Field(
        None,
        description="Up to 64 characters; the empty string is null.",
        json_schema_extra=or_null(type="string", maxLength=LANE_CHARACTERS_MAX),
    )
    provider: str | None = Field(
        None,
        description="Up to 64 characters; the empty string is null.",
        json_schema_extra=or_null(type="string", maxLength=PROVIDER_CHARACTERS_MAX),
    )
    token_count: Annotated[int | None, BeforeValidator(_number)] = Field(
        None,
        description="0 to 2,147,483,647.",
        json_schema_extra=or_null(type="integer", minimum=0, maximum=TOKEN_COUNT_MAX),
    )
    idempotency_key: str | None = Field(
        None,
        description="1 to 128 characters; the header `Idempotency-Key` works too. A repeat posts nothing.",
        json_schema_extra=or_null(type="string", **NAME),
    )
    complete: bool | None = Field(None, description="false: the message will grow, by `…/append`.", strict=True)


class Edit(BaseModel):
    """What a message says from now on."""

    content: str = Field(
        description="The whole new content: 1 to 65,536 bytes of UTF-8, unless set otherwise.",
        json_schema_extra={"minLength": 1},
    )
    revision: Annotated[int | None, BeforeValidator(_number)] = Field(
        None,
        description="The message's revision as the caller has seen it; left out, it is not compared.",
        json_schema_extra=or_null(type="integer", minimum=0),
    )


class Append(BaseModel):
    """A piece that comes behind a message's content."""

    revision: Annotated[int, BeforeValidator(_number)] = Field(
        description="The message's revision as the caller has seen it; 409 if it has another.",
        json_schema_extra={"minimum": 0},
    )
    piece: str = Field(description="What comes behind; at least one byte.", json_schema_extra={"minLength": 1})
    token_count: Annotated[int | None, BeforeValidator(_number)] = Field(
        None,
        description="How many tokens the whole content takes now; left out, it stays.",
        json_schema_extra=or_null(type="integer", minimum=0, maximum=TOKEN_COUNT_MAX),
    )
    complete: bool | None = Field(None, description="true: nothing comes behind this piece.", strict=True)


class Item(BaseModel):
    """A message as stored."""

    channel_id: str
    author: str
    content: str
    timestamp: str = Field(
        description="When the log accepted it, ISO 8601, UTC, with six digits of fraction.",
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
    revision: int = Field(description="How many changes it has had; 0 as posted.")
    complete: bool = Field(description="false while it may still grow.")
    edited_at: str | None = Field(description="When it was edited last; null when it was not.")
    erased_at: str | None = Field(description="When it was erased; null when it was not.")


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
    by_provider: dict[str, int] = Field(description="Messages by provider; null is left out.")
    by_lane: dict[str, int] = Field(description="Messages by lane; null is left out.")


class Summary(BaseModel):
    summary: Totals


class Health(BaseModel):
    status: str
