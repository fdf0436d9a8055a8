"""The REST calls that read: messages, channels, totals, health."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from errors import BadUserInput
from messages import Viewer
from resolvers import history, input_rules
from resolvers.chat import Chat
from transports.shims.answers import json_response
from transports.shims.bodies import Channels, Health, Messages, Summary
from transports.shims.calls import MESSAGES_PATH
from transports.shims.listing import Listed, Listing
from transports.shims.openapi import CHANNEL_ID, or_null, refusals
from transports.wire.http_exchange import encode_body

LIMIT_DEFAULT = 200
LIMIT_MAX = 1000
CHANNELS_MAX = 10_000
"""Channels that a call may name as its limit; without one it lists all of them."""


def add_reads(router: APIRouter, chat: Chat, viewer: Callable[[Request], Awaitable[Viewer]]) -> None:
    """Adds the calls that list messages and channels and tell totals. `viewer` says who asks."""
    Asking = Annotated[Viewer, Depends(viewer)]

    @router.get(
        MESSAGES_PATH,
        response_model=Messages,
        responses=refusals(status_410="Retention has removed what follows the cursor."),
    )
    async def list_messages(
        request: Request,
        asking: Asking,
        channel_id: Annotated[
            str | None,
            Query(
                description="Of one channel; left out, of all channels.",
                json_schema_extra=or_null(type="string", **CHANNEL_ID),
            ),
        ] = None,
        after: Annotated[str | None, Query(description="What follows this cursor; with channel_id only.")] = None,
        limit: Annotated[int, Query(ge=1, le=LIMIT_MAX)] = LIMIT_DEFAULT,
    ) -> Response:
        """The oldest messages, ascending: of a channel by sequence, of all by (timestamp, channel_id, sequence)."""
        listing = Listing(chat, asking, request.scope)
        if channel_id is not None:
            return await Listed.of("messages", listing.of_channel(channel_id, after, limit))
        if after is not None:
            raise BadUserInput("after", "must not be given without channel_id")
        return await Listed.of("messages", listing.of_all(limit))

    @router.get("/api/channels", response_model=Channels, responses=refusals())
    async def list_channels(
        request: Request,
        asking: Asking,
        after: Annotated[str | None, Query(description="Only channels whose ids follow this, by code point.")] = None,
        limit: Annotated[int | None, Query(ge=1, le=CHANNELS_MAX, description="Left out, all of them.")] = None,
    ) -> Response:
        """The ids of the channels that were posted to, sorted."""
        start = None if after is None else input_rules.well_formed("after", after)
        return await Listed.of("channels", Listing(chat, asking, request.scope).of_channels(start, limit))

    @router.get("/api/summary", response_model=Summary, responses=refusals())
    async def get_summary(asking: Asking) -> Response:
        """How many messages and tokens there are. Of providers, and of lanes, the 1,000 with the most messages."""
        totals = await history.summary(chat, asking)
        summary = {
            "total_messages": totals.messages,
            "total_tokens": totals.tokens,
            "by_provider": dict(totals.messages_by_provider),
            "by_lane": dict(totals.messages_by_lane),
        }
        return json_response(encode_body({"summary": summary}))

    @router.get("/api/health", response_model=Health)
    async def get_health() -> Response:
        """Whether the server runs at all."""
        return json_response(b'{"status":"ok"}')
