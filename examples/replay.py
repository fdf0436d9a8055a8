"""Posts real dialogues in many languages to a running server, and checks that no line was lost, repeated or changed.

    uv run python -m examples.replay [--url http://127.0.0.1:8010] [--per-language 500]

Each language of the `chatterbot-corpus` package becomes a channel. All languages are posted at the same time. The lines
of a language are posted one after the other, by the REST call and by the GraphQL mutation in turn. One `gql` client is
subscribed to all channels. The exit code is 0 if every subscription received exactly what was posted, byte for byte and
in order. Otherwise it is 1.
"""

import argparse
import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from chatterbot_corpus.corpus import DATA_DIRECTORY
from gql import Client, GraphQLRequest, gql
from gql.client import AsyncClientSession
from gql.transport.aiohttp import AIOHTTPTransport
from gql.transport.websockets import WebsocketsTransport
from tqdm import tqdm

PATIENCE_SECONDS = 30.0
"""How long a subscription may wait for its next message before it counts as missing."""

SURPLUS_SECONDS = 0.5
"""How long each subscription still listens after its last message, in case one comes that should not."""

HEAD = gql("query ($channelId: ID!) { channel(id: $channelId) { headCursor lastSequence } }")
POST = gql("""mutation ($channelId: ID!, $author: String!, $content: String!, $lane: String) {
    postMessage(channelId: $channelId, author: $author, content: $content, lane: $lane) { sequence } }""")
MESSAGES = gql("""subscription ($channelId: ID!, $after: Cursor!) {
    messages(channelId: $channelId, after: $after) { sequence author content lane } }""")

Line = tuple[str, str, str]
"""Author, content and lane of one post."""


def lines_of(language: Path) -> Iterator[Line]:
    """The dialogues of a language, file by file. The lane is the name of the file, and two authors speak in turn."""
    for file in sorted(language.glob("*.yml")):
        for conversation in yaml.safe_load(file.read_text(encoding="utf-8"))["conversations"]:
            for turn, content in enumerate(conversation):
                if content is not None and str(content):
                    yield ("ada", "grace")[turn % 2], str(content), file.stem


class Replay:
    """One run against one server: what was posted and what arrived in each channel."""

    def __init__(self, url: str, corpus: dict[str, list[Line]]) -> None:
        self.url = url
        self.corpus = corpus
        self.problems: list[str] = []

    async def run(self) -> list[str]:
        """Posts everything, waits until it has arrived, and returns what went wrong, with one line for each fault."""
        graphql = f"{self.url}/graphql"
        total = sum(len(lines) for lines in self.corpus.values())
        async with (
            aiohttp.ClientSession() as rest,
            Client(transport=AIOHTTPTransport(graphql)) as mutations,
            Client(transport=WebsocketsTransport(graphql.replace("http", "ws", 1))) as subscriptions,
        ):
            with tqdm(total=total, unit=" messages", desc=f"{len(self.corpus)} languages", file=sys.stderr) as progress:
                await asyncio.gather(
                    *(
                        self.replay(channel_id, lines, rest, mutations, subscriptions, progress)
                        for channel_id, lines in self.corpus.items()
                    )
                )
        return self.problems

    async def replay(
        self,
        channel_id: str,
        lines: list[Line],
        rest: aiohttp.ClientSession,
        mutations: AsyncClientSession,
        subscriptions: AsyncClientSession,
        progress: "tqdm[Any]",
    ) -> None:
        """One channel, posted and received at the same time."""
        head = (await mutations.execute(GraphQLRequest(HEAD, variable_values={"channelId": channel_id})))["channel"]
        receiving = asyncio.create_task(self.receive(channel_id, head, lines, subscriptions, progress))
        for number, (author, content, lane) in enumerate(lines):
            if number % 2 == 0:
                body = {"channel_id": channel_id, "author": author, "content": content, "lane": lane}
                async with rest.post(f"{self.url}/api/messages", json=body) as response:
                    response.raise_for_status()
            else:
                variables = {"channelId": channel_id, "author": author, "content": content, "lane": lane}
                await mutations.execute(GraphQLRequest(POST, variable_values=variables))
        await receiving

    async def receive(
        self,
        channel_id: str,
        head: dict[str, Any],
        lines: list[Line],
        subscriptions: AsyncClientSession,
        progress: "tqdm[Any]",
    ) -> None:
        """Compares what arrives after the head with `lines`, one by one."""
        variables = {"channelId": channel_id, "after": head["headCursor"]}
        stream = subscriptions.subscribe(GraphQLRequest(MESSAGES, variable_values=variables))
        for sequence, expected in enumerate(lines, start=head["lastSequence"] + 1):
            try:
                message = (await asyncio.wait_for(anext(stream), PATIENCE_SECONDS))["messages"]
            except TimeoutError:
                self.problems.append(f"{channel_id}: message {sequence} did not arrive")
                return
            received = (message["author"], message["content"], message["lane"])
            if message["sequence"] != sequence or received != expected:
                self.problems.append(f"{channel_id}: expected {sequence} {expected}, got {message}")
                return
            progress.update()
        surplus = asyncio.ensure_future(anext(stream))
        if (await asyncio.wait({surplus}, timeout=SURPLUS_SECONDS))[0]:
            self.problems.append(f"{channel_id}: nothing was left to come, but this came: {surplus.result()}")
        surplus.cancel()
        await asyncio.wait({surplus})
        await stream.aclose()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8010", help="the server's address (%(default)s)")
    parser.add_argument("--per-language", type=int, default=None, help="at most so many messages of each language")
    options = parser.parse_args()
    languages = sorted(path for path in Path(DATA_DIRECTORY).iterdir() if path.is_dir())
    corpus = {language.name: list(lines_of(language))[: options.per_language] for language in languages}
    problems = asyncio.run(Replay(options.url.rstrip("/"), corpus).run())
    for problem in problems:
        print(problem, file=sys.stderr)
    total = sum(map(len, corpus.values()))
    print(f"{total} messages in {len(corpus)} languages: " + ("NOT all as posted" if problems else "all as posted"))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
