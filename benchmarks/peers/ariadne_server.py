# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "ariadne==1.1.1",
#     "httptools==0.9.0",
#     "uvicorn==0.54.0",
#     "uvloop==0.23.0",
#     "websockets==17.4",
# ]
# ///
"""Ariadne's ASGI application with its graphql-transport-ws handler, as its documentation on subscriptions shows it.

It is a script with its own requirements, so that Ariadne is no dependency of the project.
"""

import argparse
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import uvicorn
from ariadne import MutationType, QueryType, SubscriptionType, make_executable_schema
from ariadne.asgi import GraphQL
from ariadne.asgi.handlers import GraphQLTransportWSHandler

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks.peers.chat import Chat, ChatMessage

TYPE_DEFS = """
type Message {
  id: ID!
  channelId: ID!
  sequence: Int!
  author: String!
  content: String!
  lane: String
  provider: String
  tokenCount: Int
  timestamp: String!
}
type Query { ready: Boolean! }
type Mutation {
  postMessage(channelId: ID!, author: String!, content: String!, lane: String, provider: String, tokenCount: Int): Message!
}
type Subscription { messages(channelId: ID!): Message! }
"""  # noqa: E501

chat = Chat()
query, mutation, subscription = QueryType(), MutationType(), SubscriptionType()


def _fields(message: ChatMessage) -> dict[str, Any]:
    return {
        "id": message.id,
        "channelId": message.channel_id,
        "sequence": message.sequence,
        "author": message.author,
        "content": message.content,
        "lane": message.lane,
        "provider": message.provider,
        "tokenCount": message.token_count,
        "timestamp": message.timestamp.isoformat(),
    }


@query.field("ready")
def resolve_ready(*_: Any) -> bool:
    return True


@mutation.field("postMessage")
async def resolve_post_message(
    _: Any, __: Any, channelId: str, author: str, content: str, tokenCount: int | None = None, **rest: str | None
) -> dict[str, Any]:
    return _fields(chat.post(channelId, author, content, token_count=tokenCount, **rest))


@subscription.source("messages")
async def source_messages(_: Any, __: Any, channelId: str) -> AsyncIterator[ChatMessage]:
    async for message in chat.messages(channelId):
        yield message


@subscription.field("messages")
def resolve_messages(message: ChatMessage, *_: Any, **__: Any) -> dict[str, Any]:
    return _fields(message)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    schema = make_executable_schema(TYPE_DEFS, query, mutation, subscription)
    app = GraphQL(schema, websocket_handler=GraphQLTransportWSHandler())
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
