"""Strawberry's OpenTelemetry extension. It records no arguments and no documents, since they hold content."""

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from strawberry.extensions import LifecycleStep
from strawberry.extensions.tracing import OpenTelemetryExtension

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider


class _Spans(OpenTelemetryExtension):
    def on_operation(self) -> Generator[None, None, None]:
        steps = super().on_operation()
        next(steps)
        self._span_holder[LifecycleStep.OPERATION].set_attribute("query", "not recorded")
        yield
        next(steps, None)


def _nothing(arguments: dict[str, Any], info: Any) -> dict[str, Any]:
    return {}


def spans(provider: "TracerProvider") -> Callable[[], OpenTelemetryExtension]:
    """The extension for `build_schema`."""
    return lambda: _Spans(arg_filter=_nothing, tracer_provider=provider)
