"""Strawberry on FastAPI as it comes: pages of a channel's history, from memory."""

import argparse
import os
from datetime import UTC, datetime

import strawberry
import uvicorn
from fastapi import FastAPI
from strawberry.fastapi import GraphQLRouter

HELD = int(os.environ["PAGES_MESSAGES"])


@strawberry.type
class Message:
    id: strawberry.ID
    channel_id: strawberry.ID
    sequence: int
    author: str
    content: str
    lane: str | None
    provider: str | None
    token_count: int | None
    timestamp: datetime


@strawberry.type
class Edge:
    cursor: str
    node: Message


@strawberry.type
class PageInfo:
    has_next_page: bool
    has_previous_page: bool
    start_cursor: str | None
    end_cursor: str | None


@strawberry.type
class Connection:
    edges: list[Edge]
    page_info: PageInfo


_NOW = datetime.now(UTC)
_MESSAGES = [
    Message(
        id=strawberry.ID(f"general:{number}"),
        channel_id=strawberry.ID("general"),
        sequence=number,
        author=f"author {number % 7}",
        content=f"message {number} ".ljust(120, "x"),
        lane="a",
        provider=None,
        token_count=None,
        timestamp=_NOW,
    )
    for number in range(1, HELD + 1)
]


@strawberry.type
class Channel:
    id: strawberry.ID

    @strawberry.field
    def messages(self, last: int, before: str | None = None) -> Connection:
        end = HELD if before is None else int(before) - 1
        found = _MESSAGES[max(0, end - last) : end]
        return Connection(
            edges=[Edge(cursor=str(message.sequence), node=message) for message in found],
            page_info=PageInfo(
                has_next_page=end < HELD,
                has_previous_page=end > last,
                start_cursor=str(found[0].sequence),
                end_cursor=str(found[-1].sequence),
            ),
        )


@strawberry.type
class Query:
    @strawberry.field
    def channel(self, id: strawberry.ID) -> Channel:
        return Channel(id=id)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    app = FastAPI()
    app.include_router(GraphQLRouter(strawberry.Schema(Query)), prefix="/graphql")
    uvicorn.run(app, port=parser.parse_args().port, log_level="warning", access_log=False)
