"""The object and input types of the contract (design 2.1).

The fields of a `messages.Message` are read from it with `getattr`. No field of `Message` has a resolver, so no field
depends on who asks, and one execution serves every subscriber.
"""

from datetime import datetime
from typing import Annotated, TypeVar, cast

import strawberry
from graphql import FieldNode, FragmentSpreadNode, InlineFragmentNode, SelectionSetNode
from strawberry.relay import PageInfo

import messages as domain
from resolvers import history, input_rules
from schema.context import Context
from schema.scalars import Cursor

Info = strawberry.Info[Context, None]

T = TypeVar("T")
_NOTHING = SelectionSetNode(selections=())


def given(value: T) -> T | None:
    """An optional argument's value. Its default is UNSET, not None, so that the SDL names no default."""
    return None if value is strawberry.UNSET else value


First = Annotated[
    int | None,
    strawberry.argument(
        description="How many at most, from the start: 0 to 200. 50 if neither `first` nor `last` is given."
    ),
]
Last = Annotated[int | None, strawberry.argument(description="How many at most, from the end: 0 to 200.")]
After = Annotated[Cursor | None, strawberry.argument(description="Only what comes after this position.")]
Before = Annotated[Cursor | None, strawberry.argument(description="Only what comes before this position.")]


@strawberry.type(
    description="One stored post, as it is when it is read. When it is changed later, that is a `MessageChange`."
)
class Message:
    id: strawberry.ID = strawberry.field(
        description="`<channelId>:<sequence>`. No other message has this id, but a channel may have it. So caches need "
        "the type and the id together as a key."
    )
    channel_id: strawberry.ID = strawberry.field(description="The channel that the message was posted to.")
    sequence: int = strawberry.field(
        description="The message's number in its channel: 1, 2, 3 … without gaps. It may be as large as 2^53 - 1, "
        "which is more than the 32 bits that some generated clients have for an Int."
    )
    cursor: Cursor = strawberry.field(
        description="The position of this message. Pass it as `after` to get everything that follows."
    )
    author: str = strawberry.field(description="Who posted it.")
    content: str = strawberry.field(
        description="The text of the message, exactly as it was posted, appended or edited."
    )
    lane: str | None = strawberry.field(description="A label that the author has chosen. Null if there is none.")
    provider: str | None = strawberry.field(description="Where the content came from. Null if the author did not say.")
    token_count: int | None = strawberry.field(
        description="How many tokens the content took. Null if the author did not say."
    )
    timestamp: datetime = strawberry.field(description="When the log accepted the message, in UTC.")
    revision: int = strawberry.field(description="How often the message was changed. 0 means: as it was posted.")
    complete: bool = strawberry.field(description="False while it may still grow.")
    edited_at: datetime | None = strawberry.field(description="When it was last edited. Null if it was never edited.")
    erased_at: datetime | None = strawberry.field(
        description="When it was erased. Null if it was not erased. In an erased message, `content` is empty, and "
        "`lane`, `provider` and `tokenCount` are null."
    )


def as_message(message: domain.Message) -> Message:
    """The same object with the type of the contract. This only tells the type checker."""
    return cast(Message, message)


@strawberry.input(
    description=(
        "Which messages are wanted. A message has to match one value of each list that is given. Null is no "
        "constraint, and an empty list matches nothing. A list has at most 100 values."
    )
)
class MessageFilter:
    authors: list[str] | None = strawberry.field(
        default=strawberry.UNSET, description="Only messages of these authors."
    )
    lanes: list[str] | None = strawberry.field(default=strawberry.UNSET, description="Only messages in these lanes.")
    providers: list[str] | None = strawberry.field(
        default=strawberry.UNSET, description="Only messages from these providers."
    )


def as_filter(filter: MessageFilter | None) -> domain.MessageFilter | None:
    """The domain's filter, or None if it has no constraint.

    Raises:
        BadUserInput: a list is over 100 values long, or holds what cannot be stored.
    """
    if not filter:
        return None
    return input_rules.message_filter(given(filter.authors), given(filter.lanes), given(filter.providers))


Filter = Annotated[MessageFilter | None, strawberry.argument(description="Only messages that match.")]


@strawberry.type(description="A message and its position.")
class MessageEdge:
    cursor: Cursor = strawberry.field(description="The position of the message.")
    node: Message = strawberry.field(description="The message.")


@strawberry.type(description="A page of a channel's messages, in ascending sequence.")
class MessageConnection:
    page_info: PageInfo = strawberry.field(description="Whether there is more before and after the page.")
    edges: list[MessageEdge] = strawberry.field(description="The messages, each with its position.")


def _head_cursor(root: strawberry.Parent["Channel"], info: Info) -> Cursor:
    return Cursor(domain.encode_cursor(info.context.chat.log.epoch, root.id, root.last_sequence))


MESSAGE_BYTES = 500
"""About how long the other fields of a message are as JSON."""


def _changes_cursor(root: strawberry.Parent["Channel"], info: Info) -> Cursor:
    return Cursor(domain.encode_cursor(info.context.chat.log.changes.epoch, root.id, root.last_change))


def selects(info: Info, name: str) -> bool:
    """Whether a field of this name is selected anywhere below the one that is resolved."""
    raw = info._raw_info
    found: list[SelectionSetNode | None] = [node.selection_set for node in raw.field_nodes]
    spread: set[str] = set()
    while found:
        for selection in (found.pop() or _NOTHING).selections:
            if isinstance(selection, FragmentSpreadNode):
                if selection.name.value not in spread:
                    spread.add(selection.name.value)
                    found.append(raw.fragments[selection.name.value].selection_set)
                continue
            if isinstance(selection, FieldNode) and selection.name.value == name:
                return True
            if isinstance(selection, FieldNode | InlineFragmentNode):
                found.append(selection.selection_set)
    return False


async def _messages(
    root: strawberry.Parent["Channel"],
    info: Info,
    first: First = strawberry.UNSET,
    after: After = strawberry.UNSET,
    last: Last = strawberry.UNSET,
    before: Before = strawberry.UNSET,
    filter: Filter = strawberry.UNSET,
) -> MessageConnection:
    context = info.context
    direction = "first" if given(last) is None else "last"
    wanted = as_filter(filter)
    context.budget.take_page(direction, history.page_size(first=given(first), last=given(last)))
    async with context.reading():
        page = await history.messages_page(
            context.chat,
            context.viewer,
            root.id,
            first=given(first),
            after=given(after),
            last=given(last),
            before=given(before),
            filter=wanted,
            budget=context.budget,
        )
        context.hold(
            "messages", sum(context.contents * message.text_bytes + MESSAGE_BYTES for message in page.messages)
        )
    return MessageConnection(
        page_info=PageInfo(
            has_next_page=page.has_next,
            has_previous_page=page.has_previous,
            start_cursor=page.start_cursor,
            end_cursor=page.end_cursor,
        ),
        edges=[MessageEdge(cursor=Cursor(message.cursor), node=as_message(message)) for message in page.messages],
    )


@strawberry.type(
    description="A named, ordered stream of messages. It need not be created: it exists as soon as somebody names it."
)
class Channel:
    id: strawberry.ID = strawberry.field(description="The id of the channel.")
    last_sequence: int = strawberry.field(
        description="The sequence of the newest message. 0 if nothing was posted yet. It may be as large as 2^53 - 1."
    )
    head_cursor: Cursor = strawberry.field(
        resolver=_head_cursor,
        description="The position of the newest message. Subscribe with it as `after`, and nothing is missed. It is "
        "valid also if there is no message yet.",
    )
    last_change: strawberry.Private[int] = 0
    changes_cursor: Cursor = strawberry.field(
        resolver=_changes_cursor,
        description="The position of the newest change. The server reads it before any page of the same operation. "
        "Subscribe to `changes` with it as `after`, and no change of these pages is missed. It is valid also if there "
        "is no change yet.",
    )
    messages: MessageConnection = strawberry.field(
        resolver=_messages,
        description="A page of the channel's messages. With a filter, at most 10,000 messages are looked at. So a page "
        "may be short although there is more. Its `endCursor` says where it stopped: go on from there.",
    )


@strawberry.type(description="A channel and its place in the list.")
class ChannelEdge:
    cursor: str = strawberry.field(description="The channel's id, to pass as `after`.")
    node: Channel = strawberry.field(description="The channel.")


@strawberry.type(description="A page of channels, in code point order of their ids.")
class ChannelConnection:
    page_info: PageInfo = strawberry.field(description="Whether there is more before and after the page.")
    edges: list[ChannelEdge] = strawberry.field(description="The channels.")
