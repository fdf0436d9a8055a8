"""The contract: query, mutation and subscription, and the schema that is made of them (design 2.1)."""

from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Annotated

import strawberry
from graphql import GraphQLError
from strawberry.extensions import SchemaExtension
from strawberry.relay import PageInfo
from strawberry.schema.config import StrawberryConfig
from strawberry.types import ExecutionContext

from resolvers import history
from resolvers.post_message import post_message
from schema.changes import (
    MessageChange,
    append_to_message,
    complete_message,
    edit_message,
    erase_author,
    erase_message,
    subscribe_changes,
)
from schema.revocations import (
    Revocation,
    RevocationConnection,
    list_revocations,
    restore_access,
    revoke_access,
)
from schema.scalars import SCALARS
from schema.source import message_source
from schema.types import (
    After,
    Channel,
    ChannelConnection,
    ChannelEdge,
    Filter,
    Info,
    Message,
    as_filter,
    as_message,
    given,
    selects,
)

ChannelId = Annotated[
    strawberry.ID,
    strawberry.argument(description="1 to 128 characters, without white space, `/` and control characters."),
]


First = Annotated[int | None, strawberry.argument(description="How many channels at most: 0 to 200, 50 by default.")]
AfterChannel = Annotated[str | None, strawberry.argument(description="Only channels whose id comes after this one.")]
MessageId = Annotated[strawberry.ID, strawberry.argument(description="`<channelId>:<sequence>`")]
Author = Annotated[str, strawberry.argument(description="1 to 128 characters.")]
Content = Annotated[
    str, strawberry.argument(description="1 to 65,536 bytes of UTF-8, unless the server has another limit.")
]
Label = Annotated[str | None, strawberry.argument(description="Up to 64 characters. The empty string becomes null.")]
TokenCount = Annotated[int | None, strawberry.argument(description="0 to 2,147,483,647.")]
IdempotencyKey = Annotated[
    str | None,
    strawberry.argument(
        description="1 to 128 characters. A repeat by the same author in the same channel returns the first message "
        "and posts nothing."
    ),
]


Complete = Annotated[
    bool | None, strawberry.argument(description="Pass false if the message is to grow by `appendToMessage`.")
]


async def _channel(info: Info, id: ChannelId) -> Channel:
    # The head is read before any page of the same operation. So a client that subscribes after `headCursor` gets
    # everything that the page did not show. For the same reason the head of the changes is read first of all.
    context, last_change = info.context, 0
    async with context.reading():
        if selects(info, "changesCursor"):
            last_change = await history.last_change(context.chat, context.viewer, id)
        last_sequence = await history.last_sequence(context.chat, context.viewer, id)
    return Channel(id=id, last_sequence=last_sequence, last_change=last_change)


async def _channels(
    info: Info, first: First = strawberry.UNSET, after: AfterChannel = strawberry.UNSET
) -> ChannelConnection:
    context = info.context
    async with context.reading():
        page = await history.channels_page(context.chat, context.viewer, first=given(first), after=given(after))
        ids = [head.channel_id for head in page.channels]
        changed = await context.chat.log.changes.last_sequences(ids) if selects(info, "changesCursor") else {}
    edges = [
        ChannelEdge(
            cursor=head.channel_id,
            node=Channel(
                id=strawberry.ID(head.channel_id),
                last_sequence=head.last_sequence,
                last_change=changed.get(head.channel_id, 0),
            ),
        )
        for head in page.channels
    ]
    return ChannelConnection(
        page_info=PageInfo(
            has_next_page=page.has_next,
            has_previous_page=page.has_previous,
            start_cursor=edges[0].cursor if edges else None,
            end_cursor=page.end_cursor,
        ),
        edges=edges,
    )


async def _message(info: Info, id: MessageId) -> Message | None:
    async with info.context.reading():
        found = await history.message_by_id(info.context.chat, info.context.viewer, id)
    return None if found is None else as_message(found)


async def _post_message(
    info: Info,
    channel_id: ChannelId,
    author: Author,
    content: Content,
    lane: Label = strawberry.UNSET,
    provider: Label = strawberry.UNSET,
    token_count: TokenCount = strawberry.UNSET,
    idempotency_key: IdempotencyKey = strawberry.UNSET,
    complete: Complete = True,
) -> Message:
    message = await post_message(
        info.context.chat,
        info.context.viewer,
        channel_id=channel_id,
        author=author,
        content=content,
        lane=given(lane),
        provider=given(provider),
        token_count=given(token_count),
        idempotency_key=given(idempotency_key),
        complete=complete,
        address=info.context.address,
    )
    return as_message(message)


async def _subscribe(
    info: Info, channel_id: ChannelId, after: After = strawberry.UNSET, filter: Filter = strawberry.UNSET
) -> AsyncGenerator[Message, None]:
    source = message_source(info.context, channel_id, given(after), as_filter(filter))
    try:
        async for message in source:
            yield as_message(message)
    finally:
        await source.aclose()


@strawberry.type(description="What can be read.")
class Query:
    channel: Channel = strawberry.field(
        resolver=_channel,
        description="The channel with this id. Every valid id has a channel; as long as nobody has posted to it, it "
        "has no messages.",
    )
    channels: ChannelConnection = strawberry.field(
        resolver=_channels, description="The channels that somebody has posted to, in code point order of their ids."
    )
    message: Message | None = strawberry.field(
        resolver=_message, description="One message. Null if the id is malformed, or if there is no such message."
    )
    revocations: RevocationConnection = strawberry.field(
        resolver=list_revocations,
        description="Whose access is revoked now. Whoever manages every channel sees all revocations; others see those "
        "in the channels that they manage.",
    )


@strawberry.type(description="What can be changed.")
class Mutation:
    post_message: Message = strawberry.mutation(
        resolver=_post_message,
        description="Appends a message to a channel. When this returns, the message survives a crash of the server.",
    )
    append_to_message: Message = strawberry.mutation(
        resolver=append_to_message,
        description="Appends a piece to a message that grows. After a failure you may send the same piece again: if "
        "it was appended before, the answer is the message as it is. When somebody has completed the message, the "
        "error is MESSAGE_COMPLETE.",
    )
    complete_message: Message = strawberry.mutation(
        resolver=complete_message,
        description="Completes a message: after this it cannot grow. Everybody who may post in the channel may do "
        "this, so a reader can stop an answer.",
    )
    edit_message: Message = strawberry.mutation(
        resolver=edit_message, description="Replaces the content of a message. It keeps its id and its sequence."
    )
    erase_message: Message = strawberry.mutation(
        resolver=erase_message,
        description="Erases a message for good: its content, lane, provider and token count are removed from the log, "
        "from its changes, and from what is still to be sent. The message stays, with its id, its sequence and its "
        "author.",
    )
    erase_author: int = strawberry.mutation(
        resolver=erase_author,
        description="Erases every message of an author and removes the name from them. Returns how many messages were "
        "erased. It needs `manage` on every channel, and may be repeated.",
    )
    revoke_access: Revocation = strawberry.mutation(
        resolver=revoke_access,
        description="Takes away an author's access to a channel, or to every channel. The author's subscriptions end, "
        "and no token of the author can read or post any more. It needs `manage` there, and takes effect on every "
        "node within a second.",
    )
    restore_access: bool = strawberry.mutation(
        resolver=restore_access,
        description="Gives an author's access back: removes the revocation of exactly this author and channel. False "
        "if there was none.",
    )


@strawberry.type(description="What the server sends as it happens.")
class Subscription:
    messages: AsyncGenerator[Message, None] = strawberry.subscription(
        resolver=_subscribe,
        description="The messages of a channel, in order. With `after`, it first sends everything after that cursor, "
        "and then what is posted. Nothing is missed or sent twice. Without `after`, it sends what is posted from now "
        "on.",
    )
    changes: AsyncGenerator[MessageChange, None] = strawberry.subscription(
        resolver=subscribe_changes,
        description="The changes of the messages of a channel, in order. With `after` (a `changesCursor`, or the "
        "cursor of a change), it first sends every change after that cursor, and then new ones. Without `after`, it "
        "sends changes from now on.",
    )


class Schema(strawberry.Schema):
    """Strawberry's schema, which logs no errors here: unexpected errors are logged once, where they are formatted."""

    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        pass


def build_schema(extensions: Iterable[type[SchemaExtension] | Callable[[], SchemaExtension]] = ()) -> Schema:
    """The contract, with Strawberry extensions around queries and mutations (for example that of OpenTelemetry)."""
    return Schema(
        query=Query,
        mutation=Mutation,
        subscription=Subscription,
        extensions=extensions,
        config=StrawberryConfig(scalar_map=SCALARS),
    )


schema = build_schema()
