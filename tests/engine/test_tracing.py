"""A post's spans, from the operation to the delivery, by the SDK's exporter in memory."""

import asyncio
from collections import Counter

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from messages import ANYONE
from resolvers.tracing import Tracing
from schema.context import Context
from schema.contract import build_schema
from schema.operations import Operations
from schema.tracing import spans
from tests.delivery.recorder import Recorder
from tests.fakes import memory_chat

SECRET = "nobody may read this in a trace"
POST = f'mutation Post {{ postMessage(channelId: "den", author: "ann", content: "{SECRET}") {{ sequence }} }}'


async def test_spans_lead_from_the_operation_over_the_commit_to_the_delivery() -> None:
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    async with memory_chat() as chat:
        chat.tracing = Tracing(provider)
        chat.hub.figures.on_sweep = chat.tracing.swept
        operations = Operations(build_schema([spans(provider)]))
        context = Context(chat=chat, viewer=ANYONE, address=None)
        sink = Recorder()
        subscriber = await chat.hub.subscribe(
            "den", None, cohort="c", filter=None, render=lambda message: b"{}", sink=sink
        )
        result = await operations.execute(operations.prepare(POST, "Post"), None, context)
        assert result == {"data": {"postMessage": {"sequence": 1}}}
        while "raqcoon.deliver" not in (finished := named(exporter)):
            await asyncio.sleep(0.001)
        subscriber.close()
    operation, commit, deliver = (
        finished[name] for name in ("GraphQL Query: Post", "raqcoon.commit", "raqcoon.deliver")
    )
    field = next(span for name, span in finished.items() if "postMessage" in name)
    assert parent(deliver) == commit.context.span_id
    assert parent(commit) == field.context.span_id
    assert parent(field) == operation.context.span_id
    assert len({span.context.trace_id for span in finished.values()}) == 1
    assert dict(deliver.attributes or {}) == {"raqcoon.sequence": 1, "raqcoon.batch": 1}
    assert SECRET not in "".join(span.to_json() for span in finished.values())
    assert Counter(span.name for span in exporter.get_finished_spans())["raqcoon.deliver"] == 1


def named(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def parent(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent is not None else None
