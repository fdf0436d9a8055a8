"""The load generator against real servers: it counts all of a sound one's deliveries, and catches a faulty one."""

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.load_generator import Load, LoadFailed, run, subscriptions
from benchmarks.processes import running
from benchmarks.servers import SERVERS, Server

FAULTY_SERVER = Path(__file__).with_name("faulty_server.py")

pytestmark = pytest.mark.skipif(
    shutil.which("gcc") is None, reason="NO GCC: the load generator cannot be compiled, the benchmarks stay untested"
)


def _faulty(fault: str) -> Server:
    return Server(
        f"faulty-{fault}",
        f"faulty ({fault})",
        "plain",
        lambda port: [sys.executable, str(FAULTY_SERVER), "--port", str(port), "--fault", fault],
        lambda: "",
    )


def _measure(server: Server, load: Load) -> dict[str, Any]:
    with running(server) as target:
        return run(target, load)


@pytest.mark.parametrize("key", ["floor", "connection-manager", "strawberry-tuned", "strawberry-sse-tuned", "raqcoon"])
def test_load_on_sound_server_counts_every_delivery(key: str) -> None:
    report = _measure(SERVERS[key], Load(12, publishers=3, channels=3, selections=4, posts=60, seconds=30))
    assert report["complete"], report["problems"]
    assert report["posts"] == 60
    assert report["deliveries"] == 60 * 4
    assert report["latency_ms"]["count"] == 60 * 4
    assert report["server_cpu_seconds"] > 0
    assert report["rss_idle_kib"] > 0


def test_load_that_posts_by_sockets_counts_every_delivery() -> None:
    load = Load(4, publishers=3, channels=2, posts=60, seconds=30, post_by_socket=True)
    report = _measure(SERVERS["raqcoon"], load)
    assert report["complete"], report["problems"]
    assert report["posts"] == 60
    assert report["deliveries"] == 60 * 2


def test_load_with_rate_posts_at_that_rate() -> None:
    report = _measure(SERVERS["floor"], Load(5, rate=40, seconds=1))
    assert report["complete"], report["problems"]
    assert 30 <= report["posts"] <= 41
    assert 0 < report["latency_ms"]["p50"] <= report["latency_ms"]["p99"] <= report["latency_ms"]["max"]


def test_load_with_probes_reports_their_times() -> None:
    load = Load(5, seconds=0.5, ping_interval_ms=10, post_probe_interval_ms=10)
    report = _measure(SERVERS["floor"], load)
    assert report["complete"], report["problems"]
    assert report["ping_probe_ms"]["count"] > 5
    assert report["post_probe_ms"]["count"] > 5


def test_load_with_long_messages_puts_frames_together() -> None:
    report = _measure(SERVERS["floor"], Load(3, posts=200, seconds=30, content_bytes=8192))
    assert report["complete"], report["problems"]
    assert report["deliveries"] == 600
    assert report["received_bytes"] > 600 * 8192


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ("drop", "missing"),
        ("repeat", "extra"),
        ("swap", "out_of_order"),
        ("foreign", "wrong_channel"),
        ("refuse", "refused_posts"),
    ],
)
def test_load_on_faulty_server_names_the_fault(fault: str, problem: str) -> None:
    load = Load(4, publishers=1, channels=2, posts=45, seconds=30, drain_seconds=0.5)
    report = _measure(_faulty(fault), load)
    assert not report["complete"]
    assert report["problems"][problem] > 0, report["problems"]


def test_load_on_server_without_the_endpoint_fails_with_its_answer() -> None:
    server = Server("x", "no GraphQL", "graphql-ws", SERVERS["floor"].command, lambda: "", prepare=lambda: None)
    with pytest.raises(LoadFailed, match="no GraphQL"):
        _measure(server, Load(1, seconds=0))


def test_subscriptions_are_different_documents_with_the_same_fields() -> None:
    payloads = subscriptions(20)
    assert len(set(payloads)) == 20
    assert len({len(payload) for payload in payloads}) == 1
