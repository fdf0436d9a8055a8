"""Runs the load generator against a server and reads its report."""

import json
import resource
import subprocess
import time
from dataclasses import dataclass
from itertools import islice, permutations
from typing import Any

from benchmarks import native
from benchmarks.machine import LOAD_CORE, CpuClock, pinned, process_cpu_seconds
from benchmarks.processes import Running

FIELDS = ("id", "channelId", "sequence", "author", "content", "lane", "provider", "timestamp")
_MUTATION = (
    "mutation Post($channelId: ID!, $author: String!, $content: String!) {"
    " postMessage(channelId: $channelId, author: $author, content: $content) { id sequence timestamp } }"
)
_VARIABLES = {"channelId": "%CHANNEL%", "author": "bench", "content": "%CONTENT%"}


class LoadFailed(RuntimeError):
    """Raised when the load generator could not measure, for example because a handshake was refused or the server is
    dead."""


@dataclass(frozen=True)
class Load:
    """The load on a server. `rate` is the number of posts a second in all; 0 is a closed loop. `posts` 0 is no
    limit."""

    subscribers: int
    publishers: int = 4
    channels: int = 1
    selections: int = 1
    rate: float = 0
    seconds: float = 10
    posts: int = 0
    content_bytes: int = 64
    settle_seconds: float = 0
    drain_seconds: float = 30
    ping_interval_ms: float = 0
    post_probe_interval_ms: float = 0
    post_by_socket: bool = False
    """Posts are sent over graphql-transport-ws. Each publisher has its own socket."""


def subscriptions(count: int) -> list[str]:
    """This many subscribe payloads. All select the same eight fields, each in a different order."""
    return [
        json.dumps(
            {
                "query": "subscription Messages($channelId: ID!) { messages(channelId: $channelId) { "
                + " ".join(fields)
                + " } }",
                "variables": {"channelId": "%CHANNEL%"},
            }
        )
        for fields in islice(permutations(FIELDS), count)
    ]


def _dialect_arguments(running: Running, load: Load) -> list[str]:
    if running.server.dialect == "plain":
        post = {"channel_id": "%CHANNEL%", "author": "bench", "content": "%CONTENT%"}
        return ["--path", "/api/ws/%CHANNEL%", "--post-path", "/api/messages", "--post-body", json.dumps(post)]
    arguments = ["--post-body", json.dumps({"query": _MUTATION, "variables": _VARIABLES})]
    for payload in subscriptions(load.selections):
        arguments += ["--subscribe", payload]
    return arguments


def run(running: Running, load: Load) -> dict[str, Any]:
    """Puts the load on the server and returns the report.

    `elsewhere_cpu_share` is added to the report. It says how many cores all other programs on this machine used in that
    time. If it is more than a few hundredths, the figures were disturbed.

    Raises:
        LoadFailed: nothing could be measured. If `complete` is false in a report, that is no failure: the report says
            what was wrong.
    """
    arguments = [
        str(native.load_generator()),
        *("--port", str(running.port), "--pid", str(running.pid), "--mode", running.server.dialect),
        *("--subscribers", str(load.subscribers), "--channels", str(load.channels)),
        *("--publishers", str(load.publishers), "--rate", str(load.rate), "--posts", str(load.posts)),
        *("--seconds", str(load.seconds), "--content-bytes", str(load.content_bytes)),
        *("--settle-seconds", str(load.settle_seconds), "--drain-seconds", str(load.drain_seconds)),
        *("--ping-interval-ms", str(load.ping_interval_ms)),
        *("--post-probe-interval-ms", str(load.post_probe_interval_ms)),
        *("--post-by-socket", str(int(load.post_by_socket))),
        *_dialect_arguments(running, load),
    ]
    busy, server_cpu = CpuClock.now(), process_cpu_seconds(running.pid)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    with pinned(LOAD_CORE):
        finished = subprocess.run(
            arguments,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=load.seconds + load.drain_seconds + load.settle_seconds + 400,
        )
    elapsed = time.monotonic() - started
    try:
        report: dict[str, Any] = json.loads(finished.stdout)
    except json.JSONDecodeError:
        raise LoadFailed(f"{running.server.label}: {finished.stdout[-500:]} {finished.stderr[-500:]}") from None
    if "error" in report:
        raise LoadFailed(f"{running.server.label}: {report['error']}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = after.ru_utime + after.ru_stime - children.ru_utime - children.ru_stime
    server = process_cpu_seconds(running.pid) - server_cpu
    elsewhere = CpuClock.now().busy_seconds - busy.busy_seconds - own - server
    report["elsewhere_cpu_share"] = round(max(0.0, elsewhere) / elapsed, 3)
    return report
