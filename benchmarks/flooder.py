"""The flood of `benchmarks.flood`: a client at 127.0.0.2 that does one thing above its limit as often as it can.

    python -m benchmarks.flooder --port 8010 --kind posts

Floods until its standard input ends, or for `SECONDS_MAX`. Prints JSON: how long it took, how often it was refused as
it should be, and how often a connection was lost or could not be opened.
"""

import argparse
import asyncio
import json
import sys
from itertools import count

from benchmarks.floods import AT_ONCE, KINDS, Kind, handshake

ADDRESS = "127.0.0.2"
"""Limits for an address must not affect the load generator, so the flood has another one."""
SECONDS_MAX = 300.0
CONNECTIONS = 16


class _Flood(asyncio.Protocol):
    """One connection of a flood."""

    def __init__(self, kind: Kind, numbers: "count[int]", counts: dict[str, int], over: asyncio.Event) -> None:
        self._kind = kind
        self._numbers = numbers
        self._counts = counts
        self._over = over
        self._seen = b""
        self._steps = iter(kind.opening)
        self._awaited = b""
        self._owed = 0
        self._writable = True
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._go_on()

    def _go_on(self) -> None:
        step = next(self._steps, None)
        if step is None:
            self._awaited = b""
            self._ask()
        else:
            request, self._awaited = step
            self._transport.write(request)

    def _ask(self) -> None:
        if self._over.is_set():
            self._transport.abort()
            return
        self._owed = 1 if self._kind.once else AT_ONCE
        if not self._kind.refusal:
            self._owed = 0
            self._transport.set_write_buffer_limits(1_000_000)
            self.resume_writing()
            return
        self._transport.write(b"".join(self._kind.request(next(self._numbers)) for _ in range(self._owed)))

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        if not self._kind.refusal and not self._awaited:
            while self._writable and not self._over.is_set() and not self._transport.is_closing():
                self._transport.write(self._kind.request(next(self._numbers)))
                self._counts["refused"] += 1

    def data_received(self, data: bytes) -> None:
        self._seen += data
        if self._awaited:
            if self._awaited in self._seen:
                self._seen = b""
                self._go_on()
            return
        if not self._kind.refusal:
            self._seen = b""
            return
        refused = self._seen.count(self._kind.refusal)
        answer = self._kind.answer or self._kind.refusal
        answered = self._seen.count(answer)
        # Keep the end of the bytes, which may be the beginning of the next answer.
        self._seen = self._seen[-len(self._kind.refusal) + 1 :]
        self._counts["refused"] += refused
        self._owed -= answered
        if self._kind.once and refused:
            self._transport.abort()
        elif self._owed <= 0:
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._owed > 0 and not self._over.is_set():
            self._counts["otherwise"] += 1
        self.lost.set_result(None)


async def flood(port: int, kind: Kind, held: int, over: asyncio.Event) -> dict[str, int | float]:
    """Floods until `over`. In addition, `held` connections stay open."""
    loop = asyncio.get_running_loop()
    numbers, counts = count(), {"refused": 0, "otherwise": 0}
    streams = [await asyncio.open_connection("127.0.0.1", port, local_addr=(ADDRESS, 0)) for _ in range(held)]
    for _, writer in streams:  # They are sockets that wait for messages, so that the server keeps them open.
        writer.write(handshake("/api/ws/quiet"))

    async def again_and_again() -> None:
        while not over.is_set():
            try:
                _, one = await loop.create_connection(
                    lambda: _Flood(kind, numbers, counts, over), "127.0.0.1", port, local_addr=(ADDRESS, 0)
                )
            except OSError:
                counts["otherwise"] += 1
                await asyncio.sleep(0.01)
            else:
                await one.lost

    began = loop.time()
    floods = [asyncio.create_task(again_and_again()) for _ in range(CONNECTIONS)]
    try:
        async with asyncio.timeout(SECONDS_MAX):
            await over.wait()
    except TimeoutError:
        over.set()
    seconds = loop.time() - began
    for task in floods:
        task.cancel()
    for _, writer in streams:
        writer.transport.abort()
    return {"seconds": seconds, **counts}


async def flood_until_told(port: int, kind: Kind, held: int) -> dict[str, int | float]:
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin, over.set)
    return await flood(port, kind, held, over)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--kind", choices=sorted(KINDS), required=True)
    parser.add_argument("--held", type=int, default=0, help="connections that stay open beside those that flood")
    options = parser.parse_args()
    print(json.dumps(asyncio.run(flood_until_told(options.port, KINDS[options.kind], options.held))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
