"""An LLM bot that answers every message mentioning it, once, whatever is restarted in between.

uv run python -m examples.agent general
"""

import asyncio
import sys

from examples.channel_client import follow, post


async def think(prompt: str) -> tuple[str, int]:
    """Where a model would be asked. Returns the answer and the tokens it cost."""
    await asyncio.sleep(0.1)
    return f"You said {len(prompt.split())} words; I would need a model to say more.", len(prompt.split())


async def run(url: str, channel_id: str, after: str | None = None, name: str = "scribe") -> None:
    """Answers for ever. The key names the message answered, so reading a message again answers it no second time."""
    async for message in follow(url, channel_id, after):
        if f"@{name}" in message["content"] and message["author"] != name:
            answer, tokens = await think(message["content"])
            await post(
                url,
                channelId=channel_id,
                author=name,
                content=f"@{message['author']} {answer}",
                lane="answers",
                provider="anthropic",
                tokenCount=tokens,
                idempotency_key=f"answer to {message['id']}",
            )


if __name__ == "__main__":
    asyncio.run(run("http://127.0.0.1:8010/graphql", sys.argv[1] if len(sys.argv) > 1 else "general"))
