"""What is measured: the load of each scenario, its servers, and the goals of RAQCOON."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.load_generator import Load

Report = dict[str, Any]
NODE_GRAPHQL = ("yoga", "mercurius", "mercurius-jit")


@dataclass(frozen=True)
class Metric:
    """A column of the table: how it is read from a report, and whether more is better."""

    label: str
    read: Callable[[Report], float]
    better: Literal["more", "less"] = "more"
    digits: int = 0


@dataclass(frozen=True)
class Target:
    """A goal: RAQCOON's value of a metric of the scenario (by its index) must be at least `factor` times the best value
    of `rivals`, or at most so much if less is better. Without rivals, `factor` is the goal itself."""

    factor: float
    rivals: tuple[str, ...] = ()
    metric: int = 0
    subject: str = "raqcoon"


@dataclass(frozen=True)
class Scenario:
    """One group of rows of the table. `load` has its full length; `--seconds` shortens it."""

    key: str
    title: str
    load: Load
    servers: tuple[str, ...]
    metrics: tuple[Metric, ...]
    targets: tuple[Target, ...] = ()
    curve: str | None = None
    """The scenarios of one curve differ only in one number, `at`."""
    at: int = 0

    @property
    def compared(self) -> frozenset[str]:
        """The servers that the goals of the scenario name."""
        return frozenset(key for target in self.targets for key in (target.subject, *target.rivals))


def _per_subscriber(report: Report) -> float:
    return float(report["rss_idle_kib"] - report["rss_before_kib"]) / max(1, int(report["subscribers"]))


def _growth_mib(report: Report) -> float:
    """Resident memory at the end minus that after a quarter of the deliveries, when pools and caches are full."""
    quarter = next(kib for _, done, kib in report["samples"] if done * 4 >= report["deliveries"])
    return float(report["rss_end_kib"] - quarter) / 1024


DELIVERIES = Metric("deliveries/s", lambda r: r["deliveries_per_second"])
CPU = Metric("CPU µs/delivery", lambda r: r["server_cpu_us_per_delivery"], "less", 2)
P50 = Metric("p50 ms", lambda r: r["latency_ms"]["p50"], "less", 1)
P99 = Metric("p99 ms", lambda r: r["latency_ms"]["p99"], "less", 1)
LOAD = Metric("load's CPU share", lambda r: r["load_cpu_share"], "less", 2)
SET_UP = Metric("set-up s", lambda r: r["connect_seconds"], "less", 2)
SET_UP_CPU = Metric("set-up CPU s", lambda r: r["connect_server_cpu_seconds"], "less", 2)
MEMORY = Metric("KiB/subscriber", _per_subscriber, "less", 1)
GROWTH = Metric("growth MiB", _growth_mib, "less", 1)
MILLIONS = Metric("million deliveries", lambda r: r["deliveries"] / 1e6, "more", 2)
PING_P99 = Metric("ping p99 ms", lambda r: r["ping_probe_ms"]["p99"], "less", 1)
POST_P99 = Metric("post p99 ms", lambda r: r["post_probe_ms"]["p99"], "less", 1)
CPU_PER_POST = Metric("CPU ms/post", lambda r: r["server_cpu_seconds"] * 1e3 / max(1, r["posts"]), "less", 2)
POST_CPU = Metric("CPU µs/post", lambda r: r["server_cpu_seconds"] * 1e6 / max(1, r["posts"]), "less")
POSTS = Metric("posts/s", lambda r: r["posts_per_second"])
ANSWER_P50 = Metric("answer p50 ms", lambda r: r["post_ms"]["p50"], "less", 2)
ANSWER_P99 = Metric("answer p99 ms", lambda r: r["post_ms"]["p99"], "less", 2)

_POSTING = (POSTS, POST_CPU, ANSWER_P50, ANSWER_P99, LOAD)
_RATE = (DELIVERIES, CPU, P50, P99, LOAD)
_WHOLE = (*_RATE, MEMORY, SET_UP, SET_UP_CPU)
_ALL = (
    "raqcoon",
    "strawberry",
    "strawberry-tuned",
    "ariadne",
    *NODE_GRAPHQL,
    "broadcast",
    "bun",
    "floor",
)
_CURVE = ("raqcoon", "floor")
_FEWER = ("raqcoon", "strawberry", "mercurius-jit", "broadcast", "bun", "floor")
"""The servers that the goals name, and the fastest of the others that execute GraphQL."""


def _few(subscribers: int) -> Scenario:
    return Scenario(
        f"few-{subscribers}",
        f"{subscribers:,} subscribers, 4 publishers",
        Load(subscribers),
        _CURVE,
        _RATE,
        curve="cost",
        at=subscribers,
    )


def _selections(count: int) -> Scenario:
    return Scenario(
        f"selections-{count}",
        f"{count} selection{'s' if count > 1 else ''} among 1,000 subscribers, 5 posts/s",
        Load(1000, selections=count, rate=5),
        ("raqcoon", "mercurius-jit") if count in (1, 20) else ("raqcoon",),
        (CPU_PER_POST, P50, P99),
        curve="selections",
        at=count,
    )


FANOUT: tuple[Scenario, ...] = (
    _few(10),
    _few(100),
    Scenario(
        "thousand",
        "1,000 subscribers, 4 publishers",
        Load(1000, settle_seconds=1),
        _ALL,
        _WHOLE,
        (Target(100, ("strawberry",)), Target(30, NODE_GRAPHQL), Target(2.5, ("floor",))),
        curve="cost",
        at=1000,
    ),
    Scenario(
        "five-thousand",
        "5,000 subscribers, 4 publishers",
        Load(5000, settle_seconds=1),
        _FEWER,
        _WHOLE,
        (Target(60, ("strawberry",)), Target(2, ("floor",))),
        curve="cost",
        at=5000,
    ),
    Scenario(
        "ten-thousand",
        "10,000 subscribers, 4 publishers",
        Load(10_000, settle_seconds=1),
        _CURVE,
        _WHOLE,
        (
            Target(1, ("floor",), _WHOLE.index(CPU)),
            Target(16, metric=_WHOLE.index(MEMORY)),
            Target(10, metric=_WHOLE.index(SET_UP_CPU)),
        ),
        curve="cost",
        at=10_000,
    ),
    Scenario(
        "one-publisher",
        "500 subscribers, 1 publisher",
        Load(500, publishers=1),
        _FEWER,
        _RATE,
        (Target(16, ("strawberry",)), Target(1, ("broadcast",))),
    ),
    Scenario(
        "paced-5",
        "1,000 subscribers, 5 posts/s",
        Load(1000, rate=5),
        ("raqcoon", "mercurius-jit", "broadcast", "bun", "floor"),
        (P50, P99, CPU, DELIVERIES),
        (Target(2, ("floor",), 0), Target(2, ("floor",), 1)),
    ),
    Scenario(
        "paced-50",
        "1,000 subscribers, 50 posts/s",
        Load(1000, rate=50),
        ("raqcoon", "broadcast", "bun", "floor"),
        (P50, P99, CPU, DELIVERIES),
        (Target(2, ("floor",), 0), Target(2, ("floor",), 1)),
    ),
    Scenario(
        "channels",
        "200 channels of 25 subscribers, 4 publishers",
        Load(5000, channels=200),
        _FEWER,
        _RATE,
        (Target(12, ("strawberry",)),),
    ),
    Scenario(
        "many-posters",
        "200 channels of 25 subscribers, 16 publishers",
        Load(5000, channels=200, publishers=16),
        ("raqcoon", "broadcast", "bun", "floor"),
        (*_RATE, CPU_PER_POST),
        (Target(1, ("broadcast",)),),
    ),
    Scenario(
        "sse",
        "1,000 SSE subscribers, 4 publishers",
        Load(1000),
        ("raqcoon-sse", "strawberry-sse", "yoga-sse"),
        _RATE,
        (Target(8, ("strawberry-sse",), subject="raqcoon-sse"),),
    ),
    Scenario(
        "alive",
        "others' sign of life: 5,000 subscribers, 4 publishers",
        Load(5000, ping_interval_ms=20, post_probe_interval_ms=50),
        _CURVE,
        (PING_P99, POST_P99, DELIVERIES),
        (Target(100, metric=0), Target(200, metric=1)),
    ),
    Scenario(
        "million",
        "1,000,000 deliveries to 1,000 subscribers: memory",
        Load(1000, posts=1000, rate=100, seconds=600),
        ("raqcoon",),
        (GROWTH, MILLIONS, DELIVERIES),
        (Target(8, metric=0),),
    ),
    *(_selections(count) for count in (1, 5, 20)),
)

POSTING: tuple[Scenario, ...] = (
    Scenario(
        "mutation",
        "postMessage over HTTP: 16 publishers, 1 subscriber",
        Load(1, publishers=16),
        ("raqcoon", "strawberry", "strawberry-tuned", "ariadne", *NODE_GRAPHQL),
        _POSTING,
        (
            Target(8, ("strawberry",)),
            Target(0.7, ("mercurius", "mercurius-jit")),
            Target(1, ("mercurius", "mercurius-jit")),
            Target(120, metric=_POSTING.index(POST_CPU)),
        ),
    ),
    Scenario(
        "one",
        "postMessage over HTTP: 1 publisher, 1 subscriber",
        Load(1, publishers=1),
        ("raqcoon", "strawberry-tuned", "mercurius-jit"),
        _POSTING,
        (Target(300, metric=_POSTING.index(POST_CPU)),),
    ),
    Scenario(
        "four",
        "postMessage over HTTP: 4 publishers, 1 subscriber",
        Load(1, publishers=4),
        ("raqcoon", "strawberry-tuned", "mercurius-jit"),
        _POSTING,
        (Target(200, metric=_POSTING.index(POST_CPU)),),
    ),
    Scenario(
        "socket",
        "postMessage over graphql-transport-ws: 16 publishers, a socket each, 1 subscriber",
        Load(1, publishers=16, post_by_socket=True),
        ("raqcoon", "strawberry", "strawberry-tuned"),
        _POSTING,
        (),
    ),
    Scenario(
        "socket-four",
        "postMessage over graphql-transport-ws: 4 publishers, a socket each, 1 subscriber",
        Load(1, publishers=4, post_by_socket=True),
        ("raqcoon", "strawberry-tuned"),
        _POSTING,
    ),
    Scenario(
        "socket-one",
        "postMessage over graphql-transport-ws: 1 publisher, 1 subscriber",
        Load(1, publishers=1, post_by_socket=True),
        ("raqcoon", "strawberry-tuned"),
        _POSTING,
    ),
    Scenario(
        "rest",
        "POST /api/messages: 16 publishers, 1 subscriber",
        Load(1, publishers=16),
        ("raqcoon-plain", "connection-manager", "broadcast", "bun", "floor"),
        _POSTING,
        (Target(0.5, ("connection-manager",), subject="raqcoon-plain"),),
    ),
)
