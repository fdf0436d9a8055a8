"""OpenTelemetry spans of a post: `raqcoon.commit` below the span that posted, `raqcoon.deliver` below the commit.

Tracing is off unless it is asked for. While it is off, it costs a post one comparison, and a sweep another one. Spans
hold sequences and counts, never content, names or tokens.
"""

import asyncio
import importlib
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from opentelemetry import trace

from errors import StartupError
from message_log.protocol import Appended, Entry, MessageLog
from messages import Draft

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext, TracerProvider

COMMITS_MAX = 4096
"""Commits that are remembered until their delivery. In a channel without subscribers there never is one."""


class Tracing:
    """Makes the spans of one server. Used on its event loop."""

    def __init__(self, provider: "TracerProvider") -> None:
        self.provider = provider
        self._tracer = trace.get_tracer("raqcoon", tracer_provider=provider)
        self._commits: dict[tuple[str, int], SpanContext] = {}

    async def append(self, log: MessageLog, draft: Draft) -> Appended:
        """`log.append(draft)` in a span of its own."""
        with self._tracer.start_as_current_span("raqcoon.commit") as span:
            appended = await log.append(draft)
            message = appended.message
            span.set_attributes({"raqcoon.sequence": message.sequence, "raqcoon.created": appended.created})
            if appended.created:
                self._commits[message.channel_id, message.sequence] = span.get_span_context()
                if len(self._commits) > COMMITS_MAX:
                    del self._commits[next(iter(self._commits))]
        return appended

    def swept(self, messages: Sequence[Entry], began_at: float) -> None:
        """A sweep that began at `began_at` (seconds since 1970) has handed these messages to their subscribers."""
        # Whoever posted wakes up in this loop step, so in the next one its commit is known here.
        asyncio.get_running_loop().call_soon(self._delivered, messages, began_at, time.time())

    def _delivered(self, messages: Sequence[Entry], began_at: float, ended_at: float) -> None:
        for message in messages:
            commit = self._commits.pop((message.channel_id, message.sequence), None)
            if commit is not None:
                span = self._tracer.start_span(
                    "raqcoon.deliver",
                    context=trace.set_span_in_context(trace.NonRecordingSpan(commit)),
                    attributes={"raqcoon.sequence": message.sequence, "raqcoon.batch": len(messages)},
                    start_time=int(began_at * 1e9),
                )
                span.end(int(ended_at * 1e9))


def provider_by_environment() -> "TracerProvider":
    """The SDK's provider as the variables `OTEL_*` set it up, with the OTLP exporter if that is installed.

    Raises:
        StartupError: the SDK is not installed.
    """
    try:
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise StartupError("RAQCOON_TRACING needs the package opentelemetry-sdk, which is not installed") from None
    provider = TracerProvider()
    try:
        exporters = importlib.import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    except ImportError:
        return provider
    provider.add_span_processor(BatchSpanProcessor(exporters.OTLPSpanExporter()))
    return provider
