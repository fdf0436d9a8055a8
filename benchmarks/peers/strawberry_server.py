"""Strawberry on FastAPI as its documentation shows it. With `--tuned`, with everything that the documentation offers.

Tuned means `ParserCache`, `ValidationCache`, an `async def` context getter (with a plain function, each request goes
through the thread pool) and no permessage-deflate. `--sse` also switches on subscriptions over server-sent events,
which are off by default.
"""

import argparse
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import strawberry
import uvicorn
from fastapi import FastAPI
from strawberry.extensions import ParserCache, ValidationCache
from strawberry.fastapi import GraphQLRouter
from strawberry.subscriptions import GRAPHQL_SSE_PROTOCOL, GRAPHQL_TRANSPORT_WS_PROTOCOL

from benchmarks.peers.chat import Chat, ChatMessage

chat = Chat()


@strawberry.type
class Message:
    """The same fields as in RAQCOON, but without the cursor."""

    id: strawberry.ID
    channel_id: strawberry.ID
    sequence: int
    author: str
    content: str
    lane: str | None
    provider: str | None
    token_count: int | None
    timestamp: datetime


def _message(source: ChatMessage) -> Message:
    return Message(
        id=strawberry.ID(source.id),
        channel_id=strawberry.ID(source.channel_id),
        sequence=source.sequence,
        author=source.author,
        content=source.content,
        lane=source.lane,
        provider=source.provider,
        token_count=source.token_count,
        timestamp=source.timestamp,
    )


@strawberry.type
class Query:
    ready: bool = True


@strawberry.type
class Mutation:
    @strawberry.mutation
    async def post_message(
        self,
        channel_id: strawberry.ID,
        author: str,
        content: str,
        lane: str | None = None,
        provider: str | None = None,
        token_count: int | None = None,
    ) -> Message:
        return _message(chat.post(channel_id, author, content, lane, provider, token_count))


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def messages(self, channel_id: strawberry.ID) -> AsyncIterator[Message]:
        async for message in chat.messages(channel_id):
            yield _message(message)


async def _context() -> dict[str, Any]:
    return {}


def build_app(*, tuned: bool, sse: bool) -> FastAPI:
    schema = strawberry.Schema(
        query=Query,
        mutation=Mutation,
        subscription=Subscription,
        extensions=[ParserCache, ValidationCache] if tuned else [],
    )
    options: dict[str, Any] = {"context_getter": _context} if tuned else {}
    if sse:
        options["subscription_protocols"] = [GRAPHQL_TRANSPORT_WS_PROTOCOL, GRAPHQL_SSE_PROTOCOL]
    app = FastAPI()
    app.include_router(GraphQLRouter(schema, **options), prefix="/graphql")
    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--tuned", action="store_true")
    parser.add_argument("--sse", action="store_true")
    arguments = parser.parse_args()
    uvicorn.run(
        build_app(tuned=arguments.tuned, sse=arguments.sse),
        host="127.0.0.1",
        port=arguments.port,
        log_level="warning",
        access_log=False,
        ws_per_message_deflate=not arguments.tuned,
    )


if __name__ == "__main__":
    main()
