"""`/metrics` in Prometheus' text format. The engine and the connections count for themselves; their figures are read
here when somebody asks.

Nothing is counted here, so a server that nobody scrapes pays nothing. No label has a value that a client can make up:
codes come from `errors.py`, everything else from this file.
"""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import accumulate
from time import perf_counter
from typing import Protocol

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import Receive, Scope, Send

from delivery.figures import Histogram
from resolvers.chat import Chat
from transports.sight import sums
from transports.wire.http_exchange import respond

LOOP_SHARE_MAX = 0.1
"""Share of the event loop's time that collecting figures may take. Whoever asks more often gets slightly older ones."""
BURST_SECONDS = 1.0
"""How much unused time may be saved up. If one collection takes 2 ms, fifty in a row are all fresh."""


class Sockets(Protocol):
    """What is counted of open sockets and streams."""

    @property
    def ended(self) -> Mapping[str, int]:
        """How many have ended, by close code."""

    def by_kind(self) -> dict[str, int]:
        """How many are open, by kind."""


class Cuts(Protocol):
    """What a keepalive counts."""

    slow_cut: int
    silent_cut: int


class Others(Protocol):
    """The other processes of this server, and what is kept of those that have ended. It passes figures on as bytes."""

    workers: int
    """How many workers this server has."""
    commits_are_told_to_all: bool
    """Whether every worker counts the commits of all."""

    def earlier(self) -> bytes:
        """What the processes counted that this one has replaced; empty when there was none."""

    def keep(self, figures: bytes) -> None:
        """Keeps this process's figures beyond its end."""

    async def ask(self) -> tuple[list[bytes], dict[str, bytes]]:
        """The figures of those that answer in time; and, by name, what is kept of those that do not."""


class Alone:
    """For a server of one process: there are no others."""

    workers = 1
    commits_are_told_to_all = False

    def earlier(self) -> bytes:
        return b""

    def keep(self, figures: bytes) -> None: ...

    async def ask(self) -> tuple[list[bytes], dict[str, bytes]]:
        return [], {}


class Metrics:
    """The endpoint, with a registry of its own.

    `keepalive` is that of the server that this endpoint belongs to; without one its counters are left out. If a server
    has several processes, whichever is asked answers for all. Counters never go back, whichever process is killed:
    each process stores what it has shown, and its successor goes on from there.
    """

    def __init__(self, chat: Chat, connections: Sockets, others: Others | None = None) -> None:
        self.keepalive: Cuts | None = None
        self._registry = CollectorRegistry()
        self._registry.register(_Server(chat, connections, self))
        self._rendered = b""
        self._collected = b""
        self._rendering: asyncio.Task[None] | None = None
        self._paid_until = 0.0
        ProcessCollector(namespace="raqcoon", registry=self._registry)
        self._others = others or Alone()
        self._earlier = sums.growing(sums.decode(self._others.earlier()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await self.page(asyncio.get_running_loop().time())
        content_type = CONTENT_TYPE_PLAIN_0_0_4.encode()
        await respond(send, 200, content_type, body, [])

    async def page(self, now: float) -> bytes:
        """The figures of this moment; slightly older ones when they are asked for without a break."""
        if not self._rendered or self._paid_until <= now:
            if self._rendering is None or self._rendering.done():
                # One at a time, however many ask. It is a task of its own, since the request that began it may go away.
                self._rendering = asyncio.get_running_loop().create_task(self._render(now))
            await asyncio.shield(self._rendering)
        return self._rendered

    def figures(self, now: float | None = None) -> bytes:
        """The figures of this process and of those that it has replaced. As old as `page` lets them be."""
        now = asyncio.get_running_loop().time() if now is None else now
        if not self._collected or self._paid_until <= now:
            with self._spending(now):
                self._collected = sums.encode(sums.added([sums.figures_of(self._registry.collect()), self._earlier]))
                self._others.keep(self._collected)
        return self._collected

    async def _render(self, now: float) -> None:
        own = sums.decode(self.figures(now))
        answers, missing = await self._others.ask()
        with self._spending(now):
            parts = [own, *map(sums.decode, answers), *(sums.growing(sums.decode(kept)) for kept in missing.values())]
            whole = sums.added(parts, commits_are_told_to_all=self._others.commits_are_told_to_all)
            self._rendered = generate_latest(_Whole(whole, self._others.workers, list(missing)))

    @contextmanager
    def _spending(self, now: float) -> Iterator[None]:
        began = perf_counter()
        yield
        self._paid_until = max(self._paid_until, now - BURST_SECONDS) + (perf_counter() - began) / LOOP_SHARE_MAX


class _Whole(CollectorRegistry):
    """The figures of a whole server, for the encoder."""

    def __init__(self, figures: sums.Figures, workers: int, missing: list[str]) -> None:
        super().__init__()
        self._figures = figures
        self._workers = workers
        self._missing = missing

    def collect(self) -> Iterator[Metric]:
        yield from sums.families_of(self._figures)
        yield _gauge("workers", "Processes that serve clients.", self._workers)
        missing = GaugeMetricFamily(
            "raqcoon_workers_missing", "1 for each that did not answer in time.", labels=["worker"]
        )
        for name in self._missing:
            missing.add_metric([name], 1)
        yield missing


class _Server(Collector):
    """Reads the figures of one server."""

    def __init__(self, chat: Chat, connections: Sockets, metrics: Metrics) -> None:
        self._chat = chat
        self._connections = connections
        self._metrics = metrics

    def describe(self) -> list[Metric]:
        return []  # Otherwise registering would collect once, before there is a loop.

    def collect(self) -> Iterator[Metric]:
        yield from self._now()
        yield from self._connected()
        yield from self._engine()

    def _now(self) -> Iterator[Metric]:
        hub = self._chat.hub
        behind = catching_up = 0
        for channel in hub.channels.values():
            head = channel.head
            for cohort in channel.cohorts.values():
                behind += sum(len(block) for block in cohort.blocks if block.position < head)
                for subscriber in cohort.loose:
                    behind += subscriber.position < head
                    catching_up += subscriber.catch_up is not None
        yield _gauge("accepting", "1 while posts are taken, 0 while the server drains.", int(self._chat.accepting))
        yield _gauge("channels", "Channels with a subscriber in this process.", len(hub.channels))
        yield _gauge("subscribers", "Live subscriptions.", hub.subscribers)
        yield _gauge("subscribers_behind", "Subscriptions whose position is not at the head.", behind)
        yield _gauge("catch_ups", "Subscriptions that read their way to the head.", catching_up)
        yield _gauge("cohorts", "Groups of subscriptions that share executions.", hub.cohorts)
        yield _gauge("tasks", "Tasks of the event loop.", len(asyncio.all_tasks()))

    def _connected(self) -> Iterator[Metric]:
        connections = self._connections
        family = GaugeMetricFamily("raqcoon_connections", "Open sockets and streams.", labels=["kind"])
        for kind, count in connections.by_kind().items():
            family.add_metric([kind], count)
        yield family
        ended = CounterMetricFamily(
            "raqcoon_connections_ended", "Sockets and streams that ended, by close code.", labels=["code"]
        )
        for code, count in connections.ended.items():
            ended.add_metric([code], count)
        yield ended
        refusals = CounterMetricFamily("raqcoon_refusals", "Errors told to clients, by code.", labels=["code"])
        for code, count in self._chat.refusals.items():
            refusals.add_metric([code], count)
        yield refusals
        keepalive = self._metrics.keepalive
        if keepalive is not None:
            cut = CounterMetricFamily(
                "raqcoon_connections_cut", "Connections cut: they took nothing, or said nothing.", labels=["reason"]
            )
            cut.add_metric(["slow"], keepalive.slow_cut)
            cut.add_metric(["silent"], keepalive.silent_cut)
            yield cut

    def _engine(self) -> Iterator[Metric]:
        hub, figures = self._chat.hub, self._chat.hub.figures
        yield _counter("messages_posted", "Messages stored by this process.", figures.messages_posted)
        yield _counter("messages_delivered", "Messages handed to subscribers.", figures.messages_delivered)
        yield _counter("commits", "Commits that stored at least one message.", figures.commits)
        yield _counter("hints", "Heads heard of from other processes or the sweep.", figures.hints)
        yield _counter("heard_messages", "Messages that other processes sent along with their hints.", figures.heard)
        yield _counter("misheard", "Hints that were dropped: garbage, or another log's.", figures.misheard)
        yield _counter("slow_falls", "Times a live subscription could not take a batch.", figures.slow_falls)
        yield _counter("catch_up_pages", "Pages taken by subscriptions behind the head.", figures.catch_up_pages)
        yield _counter("log_reads", "Reads of the log for subscriptions behind the head.", hub.pages.reads)
        yield _histogram("posts_per_commit", "Messages stored by one commit.", figures.posts_per_commit)
        yield _histogram("batch_messages", "Messages of one sweep to one cohort.", figures.batch_messages)
        yield _histogram(
            "delivery_latency_seconds", "From the log's timestamp to the write, live.", figures.latency_seconds
        )
        yield _histogram("lag_messages", "Distance to the head when a page was taken.", figures.lag_messages)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"raqcoon_{name}", text, value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"raqcoon_{name}", text, value)


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    bounds = [*map(float, histogram.bounds), float("inf")]
    buckets = [
        ("+Inf" if bound == float("inf") else repr(bound), count)
        for bound, count in zip(bounds, accumulate(histogram.counts), strict=True)
    ]
    return HistogramMetricFamily(f"raqcoon_{name}", text, buckets=buckets, sum_value=histogram.sum)
