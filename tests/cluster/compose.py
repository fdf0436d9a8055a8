"""Builds the image, runs deploy/compose.yaml, harms it under load, and checks every message.

    uv run python -m tests.cluster.compose [--no-build] [--file more.yaml …]

It needs a Docker engine with Compose 2 or newer, port 8010 and the network that the file names. It takes two to five
minutes. The exit code is 0 if nothing is missing, repeated or out of order, and otherwise 1.
"""

import argparse
import asyncio
import os
import re
import secrets
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx

from tests.cluster.chat_client import ChatClient, Failed
from tests.cluster.subscriber import Subscriber, subscribed

FILE = Path(__file__).parents[2] / "deploy" / "compose.yaml"
ADDRESS = "127.0.0.1:8010"
NODES = ("node-a", "node-b", "node-c")
PUBLISHERS = 3
SUBSCRIBERS = 9
PAUSE_SECONDS = 0.05
AWAY_SECONDS = 5.0
METRICS = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8010/metrics').read().decode())"


class Compose:
    """The `docker compose` commands of one project."""

    def __init__(self, command: str, files: list[Path]) -> None:
        self._command = [*command.split(), "-p", "raqcoon-smoke", *(f"--file={file}" for file in files)]
        self._environment = {**os.environ, "POSTGRES_PASSWORD": secrets.token_hex(16)}

    async def __call__(self, *arguments: str) -> str:
        """Runs one and returns what it printed.

        Raises:
            SystemExit: it failed. What it printed was shown.
        """
        process = await asyncio.create_subprocess_exec(
            *self._command, *arguments, env=self._environment, stdout=asyncio.subprocess.PIPE
        )
        printed, _ = await process.communicate()
        if process.returncode != 0:
            raise SystemExit(f"`{' '.join(arguments)}` ended with {process.returncode}")
        return printed.decode()

    async def subscribers(self, node: str) -> int:
        """How many subscriptions a node has, as the node itself counts them."""
        metrics = await self("exec", "-T", node, "python", "-c", METRICS)
        found = re.search(r"^raqcoon_subscribers (\d+)", metrics, re.M)
        return int(found[1]) if found else 0


class Publisher:
    """Posts until it is told to stop. A post that is not answered is repeated with its key."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.acknowledged: dict[str, int] = {}
        self.refused: Counter[str] = Counter()
        self.longest_wait_seconds = 0.0

    async def run(self, client: ChatClient, stop: asyncio.Event) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            content = f"{self.name} {number}"
            begun = time.monotonic()
            while content not in self.acknowledged:
                try:
                    sequence = await client.post("smoke", content, author=self.name, key=str(number))
                    self.acknowledged[content] = sequence
                except Failed as failed:
                    self.refused[str(failed.extensions.get("code"))] += 1
                    await asyncio.sleep(0.1)
                except (httpx.HTTPError, ValueError) as error:  # There was no answer, or an error of the balancer.
                    self.refused[type(error).__name__] += 1
                    await asyncio.sleep(0.1)
            self.longest_wait_seconds = max(self.longest_wait_seconds, time.monotonic() - begun)
            await asyncio.sleep(PAUSE_SECONDS)


async def kill_a_node(compose: Compose) -> None:
    await compose("kill", "--signal", "KILL", "node-b")
    await asyncio.sleep(3)
    await compose("up", "--detach", "--no-build", "--no-deps", "--wait", "node-b")


async def restart_nodes(compose: Compose) -> None:
    for node in NODES:
        await compose("restart", "--no-deps", node)
        await compose("up", "--detach", "--no-build", "--no-deps", "--wait", node)


async def recreate_nodes(compose: Compose) -> None:
    for node in NODES:
        await compose("up", "--detach", "--no-build", "--no-deps", "--force-recreate", "--wait", node)


async def stop_postgres(compose: Compose) -> None:
    await compose("stop", "postgres")
    await asyncio.sleep(AWAY_SECONDS)
    await compose("up", "--detach", "--no-build", "--no-deps", "--wait", "postgres")


HARM: dict[str, Callable[[Compose], Awaitable[None]]] = {
    "one node killed": kill_a_node,
    "every node restarted, one after the other": restart_nodes,
    "every node made anew, one after the other": recreate_nodes,
    f"PostgreSQL away for {AWAY_SECONDS:.0f} s": stop_postgres,
}


async def until_ready(client: ChatClient) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                if await client.ready():
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.2)


async def judge(compose: Compose) -> list[str]:
    """Puts load on the cluster and harms it. Returns the problems that it has found."""
    problems: list[str] = []
    publishers = [Publisher(f"publisher{number}") for number in range(PUBLISHERS)]
    async with ChatClient(f"http://{ADDRESS}") as client:
        await until_ready(client)
        after = await client.head_cursor("smoke")
        subscribers = [
            Subscriber(f"subscriber{number}", "smoke", [f"ws://{ADDRESS}/graphql"], after=after)
            for number in range(SUBSCRIBERS)
        ]
        async with subscribed(*subscribers):
            held = {node: await compose.subscribers(node) for node in NODES}
            print(f"subscribers by node: {held}", flush=True)
            if min(held.values()) == 0:
                problems.append(f"the balancer gave a node no subscriber: {held}")
            stop = asyncio.Event()
            tasks = [asyncio.create_task(publisher.run(client, stop)) for publisher in publishers]
            for name, harm in HARM.items():
                await asyncio.sleep(2)
                begun, before = time.monotonic(), Counter[str]()
                for publisher in publishers:
                    before += publisher.refused
                    publisher.longest_wait_seconds = 0.0
                closes = sum(len(subscriber.closes) for subscriber in subscribers)
                await harm(compose)
                await asyncio.sleep(1)
                refused = sum((publisher.refused for publisher in publishers), Counter[str]()) - before
                print(
                    f"{name}: {time.monotonic() - begun:.0f} s, "
                    f"{sum(len(subscriber.closes) for subscriber in subscribers) - closes} connections ended, "
                    f"longest post {max(publisher.longest_wait_seconds for publisher in publishers):.1f} s, "
                    f"tries not answered with a message: {dict(refused)}",
                    flush=True,
                )
                if harm is stop_postgres and set(refused) != {"UNAVAILABLE"}:
                    problems.append(f"while PostgreSQL was away posts were told {dict(refused)}, not UNAVAILABLE alone")
            await asyncio.sleep(2)
            stop.set()
            async with asyncio.timeout(60):
                await asyncio.gather(*tasks)
                log = await client.history("smoke")
                await asyncio.gather(*(subscriber.until(log[-1][0]) for subscriber in subscribers))
    acknowledged = {
        content: sequence for publisher in publishers for content, sequence in publisher.acknowledged.items()
    }
    if [sequence for sequence, _ in log] != list(range(1, len(log) + 1)):
        problems.append("the log has gaps")
    if {content: sequence for sequence, content in log} != acknowledged or len(log) != len(acknowledged):
        problems.append(f"{len(acknowledged)} posts were acknowledged, the log holds {len(log)} messages")
    problems += [f"{s.name} was not told what the log holds" for s in subscribers if s.record != log]
    problems += [f"{s.name} was told {s.errors}" for s in subscribers if s.errors]
    codes = Counter(code for subscriber in subscribers for code in subscriber.closes)
    print(f"{len(log)} messages, {SUBSCRIBERS} subscribers; connections ended by code: {dict(codes)}")
    return problems


async def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.cluster.compose", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--no-build", action="store_true", help="run the image `raqcoon` as it is")
    parser.add_argument("--file", action="append", type=Path, default=[], help="one more compose file, merged in")
    parser.add_argument("--compose", default="docker compose", help="the command, where it is another")
    chosen = parser.parse_args()
    compose = Compose(chosen.compose, [FILE, *chosen.file])
    await compose("config", "--quiet")
    if not chosen.no_build:
        await compose("build")
    try:
        begun = time.monotonic()
        await compose("up", "--detach", "--no-build", "--wait")
        print(f"up after {time.monotonic() - begun:.0f} s", flush=True)
        problems = await judge(compose)
        if problems:
            print(await compose("logs", "--no-color", "--tail", "30"))
    finally:
        await compose("down", "--volumes")
    print("\n".join(problems) or "nothing missing, nothing twice, all in order")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
