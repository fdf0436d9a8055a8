"""The object and input types of the contract (design 2.1).

A domain `messages.Message` is resolved field by field with `getattr`: no field of `Message` has a resolver, so none
can depend on who is asking, and one execution serves every subscriber.
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
    int | None, strawberry.argument(description="At most so many, from the start: 0 to 200, 50 when neither is given.")
]
Last = Annotated[int | None, strawberry.argument(description="At most so many, from the end: 0 to 200.")]
After = Annotated[Cursor | None, strawberry.argument(description="Only what follows this position.")]
Before = Annotated[Cursor | None, strawberry.argument(description="Only what precedes this position.")]


@strawberry.type(description="One stored post, as it stands when it is read. What is done to it later is a change.")
class Message:
    id: strawberry.ID = strawberry.field(
        description="`<channelId>:<sequence>`: unique among all messages, to normalise caches by, together with the "
        "type: a channel may be called as another channel's message is."
    )
    channel_id: strawberry.ID = strawberry.field(description="The channel that the message was posted to.")
    sequence: int = strawberry.field(
        description="The message's number in its channel: 1, 2, 3 … without gaps. It goes up to 2^53 - 1, as a JSON "
        "number: more than the 32 bits that some generated clients give an Int."
    )
    cursor: Cursor = strawberry.field(
        description="The position of this message: passed as `after`, everything that follows it is sent."
    )
    author: str = strawberry.field(description="Who posted it.")
    content: str = strawberry.field(description="What was posted, byte for byte.")
    lane: str | None = strawberry.field(description="A label of the author's choice, null when there is none.")
    provider: str | None = strawberry.field(description="Where the content came from, null when it was not told.")
    token_count: int | None = strawberry.field(description="How many tokens the content took, null when not told.")
    timestamp: datetime = strawberry.field(description="When the log accepted the message, UTC.")
    revision: int = strawberry.field(description="How many changes the message has had; 0 as posted.")
    complete: bool = strawberry.field(description="False while it may still grow.")
    edited_at: datetime | None = strawberry.field(description="When it was edited last, null when it was not.")
    erased_at: datetime | None = strawberry.field(
        description="When it was erased, null when it was not. Then content is empty; lane, provider and tokenCount "
        "are null."
    )


def as_message(message: domain.Message) -> Message:
    """The domain's message as the contract's: the same object, seen by another type checker."""
    return cast(Message, message)


@strawberry.input(
    description=(
        "Which messages are wanted: OR inside a list, AND between lists. Null is no constraint, an empty list matches "
        "nothing; at most 100 values a list."
    )
)
class MessageFilter:
    authors: list[str] | None = strawberry.field(
        default=strawberry.UNSET, description="Posted by one of these authors."
    )
    lanes: list[str] | None = strawberry.field(default=strawberry.UNSET, description="In one of these lanes.")
    providers: list[str] | None = strawberry.field(default=strawberry.UNSET, description="From one of these providers.")


def as_filter(filter: MessageFilter | None) -> domain.MessageFilter | None:
    """The domain's filter; None when nothing constrains.

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
    page_info: PageInfo = strawberry.field(description="What lies before and after the page.")
    edges: list[MessageEdge] = strawberry.field(description="The messages, each with its position.")


def _head_cursor(root: strawberry.Parent["Channel"], info: Info) -> Cursor:
    return Cursor(domain.encode_cursor(info.context.chat.log.epoch, root.id, root.last_sequence))


MESSAGE_BYTES = 500
"""About what a message's other fields are as JSON."""


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


@strawberry.type(description="A named, ordered stream of messages. It exists as soon as it is named.")
class Channel:
    id: strawberry.ID = strawberry.field(description="The channel's plain id.")
    last_sequence: int = strawberry.field(
        description="The newest message's sequence, 0 while nothing was posted. It goes up to 2^53 - 1, as `sequence`."
    )
    head_cursor: Cursor = strawberry.field(
        resolver=_head_cursor,
        description="The position of the newest message. It is valid when there is none yet: subscribe with it as "
        "`after` and nothing is missed.",
    )
    last_change: strawberry.Private[int] = 0
    changes_cursor: Cursor = strawberry.field(
        resolver=_changes_cursor,
        description="The position of the newest change, read before any page of the same operation; valid when there "
        "is none yet. Read it before the messages, and subscribe to `changes` with it as `after`.",
    )
    messages: MessageConnection = strawberry.field(
        resolver=_messages,
        description="A page of the channel's messages. A filtered page looks at no more than 10,000 messages: it may "
        "be short, and its cursor is where it stopped.",
    )


@strawberry.type(description="A channel and its place in the list.")
class ChannelEdge:
    cursor: str = strawberry.field(description="The channel's id, to pass as `after`.")
    node: Channel = strawberry.field(description="The channel.")


@strawberry.type(description="A page of channels, by code point order of their ids.")
class ChannelConnection:
    page_info: PageInfo = strawberry.field(description="What lies before and after the page.")
    edges: list[ChannelEdge] = strawberry.field(description="The channels.")
