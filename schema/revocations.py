"""The part of the contract that revokes an author's access and restores it."""

from datetime import datetime
from typing import Annotated, cast

import strawberry
from strawberry.relay import PageInfo

import messages as domain
from resolvers import revocations
from schema.types import Info, given


@strawberry.type(description="An author's access to a channel, or to every channel, was taken away.")
class Revocation:
    author: str = strawberry.field(description="The author who has no access.")
    channel_id: strawberry.ID | None = strawberry.field(description="The channel. Null means every channel.")
    until: datetime | None = strawberry.field(
        description="When it ends by itself. Null if it lasts until the access is restored."
    )
    revoked_at: datetime = strawberry.field(description="When the access was taken away.")
    revoked_by: str = strawberry.field(description="Who took it away: the author of the token that was used.")


@strawberry.type(description="A revocation and its position.")
class RevocationEdge:
    cursor: str = strawberry.field(description="The position. Pass it as `after`.")
    node: Revocation = strawberry.field(description="The revocation.")


@strawberry.type(description="A page of revocations, ordered by author and channel.")
class RevocationConnection:
    page_info: PageInfo = strawberry.field(description="Whether there is more before and after the page.")
    edges: list[RevocationEdge] = strawberry.field(description="The revocations, each with its position.")


ThrownOut = Annotated[str, strawberry.argument(description="The author, in 1 to 128 characters.")]
InChannel = Annotated[
    strawberry.ID | None, strawberry.argument(description="The channel. If it is left out or null, every channel.")
]
Until = Annotated[
    datetime | None,
    strawberry.argument(
        description="When it ends by itself; a time in the future. If it is left out, it does not end by itself."
    ),
]
First = Annotated[int | None, strawberry.argument(description="How many at most: 0 to 200, 50 by default.")]
After = Annotated[str | None, strawberry.argument(description="Only what comes after this position.")]


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
