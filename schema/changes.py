"""What is done to messages after they were posted: its types, mutations and subscription."""

from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Annotated, cast

import strawberry

import changes as domain
from resolvers import change_message
from schema.scalars import Cursor
from schema.source import change_source
from schema.types import Info, Message, as_message, given

MessageId = Annotated[strawberry.ID, strawberry.argument(description="`<channelId>:<sequence>`")]
Revision = Annotated[
    int,
    strawberry.argument(
        description="The revision that the caller has seen. If the message has another one, the error is "
        "REVISION_CONFLICT."
    ),
]
MaybeRevision = Annotated[
    int | None,
    strawberry.argument(
        description="The revision that the caller has seen. If the message has another one, the error is "
        "REVISION_CONFLICT. If it is left out, revisions are not compared."
    ),
]
Piece = Annotated[str, strawberry.argument(description="The text to append to the content; at least one byte.")]
Content = Annotated[
    str,
    strawberry.argument(
        description="The whole new content: 1 to 65,536 bytes of UTF-8, unless the server has another limit."
    ),
]
TokenCount = Annotated[
    int | None,
    strawberry.argument(
        description="Tokens of the whole content, with this piece. If it is left out, the number stays as it is."
    ),
]
Done = Annotated[bool | None, strawberry.argument(description="Pass true if this is the last piece.")]
ChannelId = Annotated[strawberry.ID, strawberry.argument(description="The channel whose changes are wanted.")]
After = Annotated[Cursor | None, strawberry.argument(description="Only changes after this position.")]

MessageChangeKind = strawberry.enum(
    domain.MessageChangeKind, name="MessageChangeKind", description="What was done to a message."
)


@strawberry.type(
    description="What was done to a message after it was posted. A channel's changes are numbered, durable and "
    "ordered like its messages. Apply a change to a message that you have if the change's `revision` is the message's "
    "plus one. Ignore it if its `revision` is not larger than the message's. If you do not have the message yet, keep "
    "the change until the message comes."
)
class MessageChange:
    cursor: Cursor = strawberry.field(description="The position of this change. Pass it as `after` of `changes`.")
    sequence: int = strawberry.field(
        description="The change's number among the changes of its channel: 1, 2, 3 … without gaps. It may be as large "
        "as 2^53 - 1."
    )
    channel_id: strawberry.ID = strawberry.field(description="The channel of the message.")
    message_id: strawberry.ID = strawberry.field(description="The id of the message.")
    kind: MessageChangeKind = strawberry.field(description="What was done.")  # type: ignore[valid-type]
    revision: int = strawberry.field(description="The message's revision after this change.")
    piece: str | None = strawberry.field(
        description="What was appended, if `kind` is APPENDED. Null after the message was erased."
    )
    content: str | None = strawberry.field(
        description="The whole new content, if `kind` is EDITED. Null after the message was erased."
    )
    author: str = strawberry.field(description="Who did it.")
    timestamp: datetime = strawberry.field(description="When the log accepted it, in UTC.")


async def append_to_message(
    info: Info,
    id: MessageId,
    revision: Revision,
    piece: Piece,
    token_count: TokenCount = strawberry.UNSET,
    complete: Done = False,
) -> Message:
    context = info.context
    message = await change_message.append_to_message(
        context.chat,
        context.viewer,
        message_id=id,
        revision=revision,
        piece=piece,
        token_count=given(token_count),
        complete=bool(complete),
        address=context.address,
    )
    return as_message(message)


async def complete_message(info: Info, id: MessageId) -> Message:
    context = info.context
    message = await change_message.complete_message(
        context.chat, context.viewer, message_id=id, address=context.address
    )
    return as_message(message)


async def edit_message(
    info: Info, id: MessageId, content: Content, revision: MaybeRevision = strawberry.UNSET
) -> Message:
    context = info.context
    message = await change_message.edit_message(
        context.chat,
        context.viewer,
        message_id=id,
        content=content,
        revision=given(revision),
        address=context.address,
    )
    return as_message(message)


async def erase_message(info: Info, id: MessageId) -> Message:
    context = info.context
    message = await change_message.erase_message(context.chat, context.viewer, message_id=id, address=context.address)
    return as_message(message)


async def erase_author(
    info: Info, author: Annotated[str, strawberry.argument(description="Whose messages are erased.")]
) -> int:
    return await change_message.erase_author(info.context.chat, info.context.viewer, author=author)


async def subscribe_changes(
    info: Info, channel_id: ChannelId, after: After = strawberry.UNSET
) -> AsyncGenerator[MessageChange, None]:
    source = change_source(info.context, channel_id, given(after))
    try:
        async for change in source:
            yield cast(MessageChange, change)
    finally:
        await source.aclose()
