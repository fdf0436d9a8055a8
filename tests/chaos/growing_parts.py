"""The processes of a `growing` run: one writes answers piece by piece, and some subscribe to them.

Each may be killed at any moment, and is then started again with the same arguments. Each piece is written to a file
before it is sent. So after a kill, the new process sends exactly the same piece again.
"""

import argparse
import asyncio
import os
import random
import struct
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import orjson
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException
from websockets.typing import Subprotocol

from examples.held_messages import HeldMessages

POST = """mutation ($c: ID!, $k: String!) {
  postMessage(channelId: $c, author: "scribe", content: "It", complete: false, idempotencyKey: $k) { id }
}"""
APPEND = """mutation ($i: ID!, $r: Int!, $p: String!) {
  appendToMessage(id: $i, revision: $r, piece: $p) { revision }
}"""
COMPLETE = """mutation ($i: ID!) { completeMessage(id: $i) { revision } }"""
OPEN = """query ($c: ID!) { channel(id: $c) {
  changesCursor messages(last: 200) { edges { node { id revision content complete } } } } }"""
CHANGES = """subscription ($c: ID!, $a: Cursor) {
  changes(channelId: $c, after: $a) { cursor messageId kind revision piece content }
}"""
END = "end"
"""The name of a file. When it exists, producers complete their messages."""
RETRY_SECONDS = 0.1
MASK = b"\0\0\0\0"


def channel_of(message: int, channels: int) -> str:
    return f"c{message % channels}"


def piece_of(message: int, number: int) -> str:
    """A random text with the time at which it was made."""
    return f"<{message}.{number}@{time.time():.6f}>" + random.choice(("", " é", " 🌩\n", " and a few words more"))


class Answers:
    """Posts messages and appends pieces to each at a fixed rate, until the file `END` exists. Then it completes
    them."""

    def __init__(self, directory: Path, port: int, messages: int, channels: int, rate: float) -> None:
        self._directory = directory
        self._port = port
        self._messages = messages
        self._channels = channels
        self._rate = rate

    async def run(self) -> None:
        await asyncio.gather(*(self._write(number) for number in range(self._messages)))

    async def _write(self, message: int) -> None:
        link = Link(self._port)
        channel = channel_of(message, self._channels)
        id_ = (await link.ask(POST, c=channel, k=str(message)))["postMessage"]["id"]
        path = self._directory / f"{message}.sent"
        path.touch()
        sent = path.read_bytes().splitlines()
        if sent and not path.read_bytes().endswith(b"\n"):
            sent.pop()  # The process was killed while it wrote this line. So the piece was not sent.
            path.write_bytes(b"".join(line + b"\n" for line in sent))
        if sent:  # The newest piece may have been sent or not.
            await link.ask(APPEND, i=id_, r=len(sent) - 1, p=orjson.loads(sent[-1]))
        due = time.monotonic() + random.random() / self._rate
        with path.open("ab", buffering=0) as record:
            while not (self._directory / END).exists():
                await asyncio.sleep(due - time.monotonic())
                piece = piece_of(message, len(sent))
                record.write(orjson.dumps(piece) + b"\n")
                sent.append(b"")
                await link.ask(APPEND, i=id_, r=len(sent) - 1, p=piece)
                due = max(due + 1 / self._rate, time.monotonic() - 1)
        await link.ask(COMPLETE, i=id_)
        (self._directory / f"{message}.done").touch()


class Link:
    """A connection that sends one request at a time, and repeats it until it is answered."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: Any = None

    async def ask(self, query: str, **variables: object) -> Any:
        while True:
            try:
                async with asyncio.timeout(10):
                    if self._socket is None:
                        self._socket = await open_socket(self._port)
                    payload = {"query": query, "variables": variables}
                    await self._socket.send(orjson.dumps({"id": "q", "type": "subscribe", "payload": payload}).decode())
                    answer = orjson.loads(await self._socket.recv())
                    await self._socket.recv()  # complete
                if "errors" not in answer["payload"]:
                    return answer["payload"]["data"]
                code = answer["payload"]["errors"][0]["extensions"]["code"]
                if code != "UNAVAILABLE":
                    raise AssertionError(f"{query.split()[0]} {variables}: {answer}")
            except (OSError, TimeoutError, WebSocketException):
                if self._socket is not None:
                    self._socket.transport.abort()
                self._socket = None
            await asyncio.sleep(RETRY_SECONDS)


async def open_socket(port: int) -> Any:
    socket = await connect(
        f"ws://127.0.0.1:{port}/graphql",
        subprotocols=[Subprotocol("graphql-transport-ws")],
        compression=None,
        ping_interval=None,
        max_size=None,
        max_queue=None,
    )
    await socket.send('{"type":"connection_init"}')
    await socket.recv()
    return socket


class Watcher(asyncio.Protocol):
    """One subscriber of `changes`. It keeps the messages of a channel up to date by the rule of the example, over all
    of its connections.

    It parses frames by itself to save CPU time, because a thousand subscribers share one core.
    """

    def __init__(self, port: int, channel: str, waits: list[tuple[float, float]]) -> None:
        self.channel = channel
        self.held = HeldMessages()
        self.changes = 0
        self._cursor: str | None = None
        self._port = port
        self._waits = waits
        self._buffer = b""
        self._lost = asyncio.Event()
        self._transport: Any = None

    async def run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(20):
                    socket = await open_socket(self._port)
            except (OSError, TimeoutError, WebSocketException):
                await asyncio.sleep(random.random())
                continue
            self._buffer, self._transport = b"", socket.transport
            self._lost.clear()
            self._transport.set_protocol(self)
            if self._cursor is None:
                self._send(
                    {"id": "q", "type": "subscribe", "payload": {"query": OPEN, "variables": {"c": self.channel}}}
                )
            else:
                self._subscribe()
            await self._lost.wait()
            await asyncio.sleep(random.random())

    def _subscribe(self) -> None:
        variables = {"c": self.channel, "a": self._cursor}
        self._send({"id": "s", "type": "subscribe", "payload": {"query": CHANGES, "variables": variables}})

    def _send(self, frame: object) -> None:
        self._write(1, orjson.dumps(frame))

    def _write(self, opcode: int, data: bytes) -> None:
        length = bytes([0x80 | len(data)]) if len(data) < 126 else struct.pack(">BH", 0xFE, len(data))
        self._transport.write(bytes([0x80 | opcode]) + length + MASK + data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost.set()

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        at, now = 0, time.time()
        while len(buffer) >= at + 2:
            size, start = buffer[at + 1], at + 2
            if size == 126:
                start += 2
                size = int.from_bytes(buffer[at + 2 : start])
            elif size == 127:
                start += 8
                size = int.from_bytes(buffer[at + 2 : start])
            if len(buffer) < start + size:
                break
            opcode, frame = buffer[at] & 15, buffer[start : start + size]
            at = start + size
            if opcode == 9:
                self._write(10, frame)
            elif opcode == 1:
                self._take(orjson.loads(frame), now)
        self._buffer = buffer[at:]

    def _take(self, frame: Any, now: float) -> None:
        if frame["type"] == "error":
            raise AssertionError(frame)
        if frame["type"] != "next":
            return
        if "errors" in frame["payload"]:
            self._transport.abort()
            return
        data = frame["payload"]["data"]
        if frame["id"] == "q":
            for edge in data["channel"]["messages"]["edges"]:
                self.held.take_message(edge["node"])
            self._cursor = data["channel"]["changesCursor"]
            self._subscribe()
            return
        change = data["changes"]
        self._cursor = change["cursor"]
        self.held.take_change({**change, "timestamp": ""})
        self.changes += 1
        if (piece := change["piece"]) and self.changes % 5 == 0:
            made = float(piece[piece.index("@") + 1 : piece.index(">")])
            self._waits.append((made, now - made))


class Audience:
    """Runs watchers, spread over the channels. In the end it says how many show what was sent, and how soon it came."""

    def __init__(self, directory: Path, port: int, name: str, count: int, messages: int, channels: int) -> None:
        self._directory = directory
        self._name = name
        self._messages = messages
        self._waits: list[tuple[float, float]] = []
        self._watchers = [Watcher(port, channel_of(number, channels), self._waits) for number in range(count)]
        self._channels = channels

    async def run(self) -> None:
        running = [asyncio.create_task(watcher.run()) for watcher in self._watchers]
        while not all((self._directory / f"{number}.done").exists() for number in range(self._messages)):
            await asyncio.sleep(0.2)
        sent: dict[str, set[str]] = defaultdict(set)
        for number in range(self._messages):
            lines = (self._directory / f"{number}.sent").read_bytes().splitlines()
            sent[channel_of(number, self._channels)].add("It" + "".join(map(orjson.loads, lines)))
        give_up = time.monotonic() + 60
        while not all(self._has_all(watcher, sent) for watcher in self._watchers) and time.monotonic() < give_up:
            await asyncio.sleep(0.2)
        right = sum(self._has_all(watcher, sent) for watcher in self._watchers)
        for task in running:
            task.cancel()
        report = {
            "watchers": len(self._watchers),
            "right": right,
            "changes": sum(watcher.changes for watcher in self._watchers),
            "waits": self._waits[:: max(1, len(self._waits) // 20_000)],
        }
        temporary = self._directory / f"{self._name}.part"
        temporary.write_bytes(orjson.dumps(report))
        os.replace(temporary, self._directory / f"{self._name}.seen")

    @staticmethod
    def _has_all(watcher: Watcher, sent: dict[str, set[str]]) -> bool:
        held = watcher.held.messages.values()
        return all(m["complete"] for m in held) and {m["content"] for m in held} == sent[watcher.channel]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=("write", "watch"))
    parser.add_argument("directory", type=Path)
    parser.add_argument("port", type=int)
    parser.add_argument("messages", type=int)
    parser.add_argument("channels", type=int)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--name", default="")
    parser.add_argument("--count", type=int, default=1)
    given = parser.parse_args()
    if given.part == "write":
        part: Answers | Audience = Answers(given.directory, given.port, given.messages, given.channels, given.rate)
    else:
        part = Audience(given.directory, given.port, given.name, given.count, given.messages, given.channels)
    asyncio.run(part.run())


if __name__ == "__main__":
    sys.exit(main())
