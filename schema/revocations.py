"""The part of the contract that revokes an author's access and restores it."""

from datetime import datetime
from typing import Annotated, cast

import strawberry
from strawberry.relay import PageInfo

import messages as domain
from resolvers import revocations
from schema.types import Info, given


@strawberry.type(description="That an author's access to a channel, or to every channel, was taken away.")
class Revocation:
    author: str = strawberry.field(description="Whose access it is.")
    channel_id: strawberry.ID | None = strawberry.field(description="The channel; null stands for every channel.")
    until: datetime | None = strawberry.field(description="When it ends by itself; null: not before it is restored.")
    revoked_at: datetime = strawberry.field(description="Since when.")
    revoked_by: str = strawberry.field(description="The author whose token it was done with.")


@strawberry.type(description="A revocation and its position.")
class RevocationEdge:
    cursor: str = strawberry.field(description="The position, to pass as `after`.")
    node: Revocation = strawberry.field(description="The revocation.")


@strawberry.type(description="A page of revocations, by author and channel.")
class RevocationConnection:
    page_info: PageInfo = strawberry.field(description="What lies before and after the page.")
    edges: list[RevocationEdge] = strawberry.field(description="The revocations, each with its position.")


ThrownOut = Annotated[str, strawberry.argument(description="Whose access; 1 to 128 characters.")]
InChannel = Annotated[
    strawberry.ID | None, strawberry.argument(description="The channel; left out or null, every channel.")
]
Until = Annotated[
    datetime | None, strawberry.argument(description="When it ends by itself, in the future; left out, never.")
]
First = Annotated[int | None, strawberry.argument(description="At most so many: 0 to 200, 50 by default.")]
After = Annotated[str | None, strawberry.argument(description="Only what follows this position.")]


def _as_contract(revocation: domain.Revocation) -> Revocation:
    return cast(Revocation, revocation)


async def revoke_access(
    info: Info, author: ThrownOut, channel_id: InChannel = strawberry.UNSET, until: Until = strawberry.UNSET
) -> Revocation:
    context = info.context
    return _as_contract(
        await revocations.revoke_access(
            context.chat, context.viewer, author=author, channel_id=given(channel_id), until=given(until)
        )
    )


async def restore_access(info: Info, author: ThrownOut, channel_id: InChannel = strawberry.UNSET) -> bool:
    context = info.context
    return await revocations.restore_access(context.chat, context.viewer, author=author, channel_id=given(channel_id))


async def list_revocations(
    info: Info, first: First = strawberry.UNSET, after: After = strawberry.UNSET
) -> RevocationConnection:
    page = revocations.revocations_page(info.context.chat, info.context.viewer, first=given(first), after=given(after))
    return RevocationConnection(
        page_info=PageInfo(
            has_next_page=page.has_next,
            has_previous_page=page.has_previous,
            start_cursor=page.cursors[0] if page.cursors else None,
            end_cursor=page.cursors[-1] if page.cursors else given(after),
        ),
        edges=[
            RevocationEdge(cursor=cursor, node=_as_contract(each))
            for cursor, each in zip(page.cursors, page.revocations, strict=True)
        ],
    )
