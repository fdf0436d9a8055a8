"""Short functions to ask a node over HTTP."""

from typing import Any

import httpx

POST = """
mutation Post($channelId: ID!, $author: String!, $content: String!, $key: String) {
  postMessage(channelId: $channelId, author: $author, content: $content, idempotencyKey: $key) { sequence cursor }
}
"""
HEAD = "query Head($id: ID!) { channel(id: $id) { headCursor lastSequence } }"
PAGE = """
query Page($id: ID!, $after: Cursor) {
  channel(id: $id) { messages(first: 200, after: $after) {
    nodes: edges { node { sequence content } } pageInfo { hasNextPage endCursor }
  } }
}
"""


class Failed(Exception):
    """Raised when a node answers with GraphQL errors. `extensions` are those of the first error."""

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        super().__init__(errors[0]["message"])
        self.extensions: dict[str, Any] = errors[0].get("extensions", {})


class ChatClient:
    """Asks one node. It keeps its connections open; use it with `async with`."""

    def __init__(self, url: str, *, timeout_seconds: float = 15.0, token: str | None = None) -> None:
        self.http = httpx.AsyncClient(
            base_url=url,
            headers={} if token is None else {"authorization": f"Bearer {token}"},
            timeout=timeout_seconds,
            limits=httpx.Limits(max_connections=200),
            trust_env=False,
        )

    async def __aenter__(self) -> "ChatClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()

    async def ask(self, query: str, **variables: Any) -> Any:
        """The `data` of an operation.

        Raises:
            Failed: the answer carries errors.
            httpx.HTTPError: there is no answer.
        """
        answer = (await self.http.post("/graphql", json={"query": query, "variables": variables})).json()
        if answer.get("errors"):
            raise Failed(answer["errors"])
        return answer["data"]

    async def post(self, channel_id: str, content: str, *, author: str = "ada", key: str | None = None) -> int:
        """Posts and returns the message's sequence."""
        data = await self.ask(POST, channelId=channel_id, author=author, content=content, key=key)
        return int(data["postMessage"]["sequence"])

    async def head_cursor(self, channel_id: str) -> str:
        data = await self.ask(HEAD, id=channel_id)
        return str(data["channel"]["headCursor"])

    async def history(self, channel_id: str) -> list[tuple[int, str]]:
        """(sequence, content) of every message in the channel."""
        held: list[tuple[int, str]] = []
        after: str | None = None
        while True:
            page = (await self.ask(PAGE, id=channel_id, after=after))["channel"]["messages"]
            held += [(edge["node"]["sequence"], edge["node"]["content"]) for edge in page["nodes"]]
            if not page["pageInfo"]["hasNextPage"]:
                return held
            after = page["pageInfo"]["endCursor"]

    async def ready(self) -> bool:
        return (await self.http.get("/readyz")).status_code == 200
