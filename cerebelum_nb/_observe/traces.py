"""Traces for OpenTelemetry: live, of the executions of this process; and of any execution, from the log.

spans.py makes the spans; this module converts them to OpenTelemetry and sends them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Self, cast
from urllib.parse import urlsplit

from .._core.arguments import ExecutionLike
from .._core.events import (
    Event,
)
from .._engine import observers
from .._store.base import Store
from .._store.connect import resolve_store
from ..errors import CerebelumError
from .extras import need
from .spans import LEAVES, Fold, Per, Span, attempt_id, own_part, run_of, spans_of, trace_id

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import SpanContext

    from .._engine.execution import Execution
    from .._engine.ports import Host
    from .._engine.scope import Scope

__all__ = ["Traces", "send", "trace"]

_BATCH = 500
_NOT_TAKEN = (
    "the collector did not take the trace: is its address right, and does it take OTLP over HTTP (usually port 4318)?"
)


class Traces:
    """Sends the trace of every execution that this process runs, until it is closed.

    Spans that a step's own code makes are children of the span of its attempt. A span is sent when it has ended; what a
    killed process could not send is still in the log: ``cerebelum trace ID --otlp URL``.

    Args:
        endpoint: the address of a collector that takes OTLP over HTTP, such as ``http://localhost:4318``; None uses the
            environment variables of OpenTelemetry (``OTEL_EXPORTER_OTLP_ENDPOINT``).
        processor: a span processor to use instead.
        per: what makes one trace: an ``"execution"``, or each ``"run"`` of it in a process, linked to the one before.
            Use ``"run"`` for executions of days, whose traces a sampler would not wait for.

    Raises:
        CerebelumError: OpenTelemetry is not installed.

    Example:
        >>> from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        >>> from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        >>> spans = InMemorySpanExporter()
        >>> with Traces(processor=SimpleSpanProcessor(spans)):
        ...     result = release.run(store=MemoryStore())
        >>> [span.name for span in spans.get_finished_spans()]
        ['step build', 'workflow release']
    """

    def __init__(
        self, endpoint: str | None = None, *, processor: SpanProcessor | None = None, per: Per = "execution"
    ) -> None:
        need("opentelemetry.sdk", "otel")
        if per not in ("execution", "run"):
            raise ValueError(f"per must be 'execution' or 'run', not {per!r}")
        if processor is None:
            from opentelemetry.sdk.trace.export import BatchSpanProcessor

            processor = BatchSpanProcessor(_exporter(endpoint))
        self._processor, self._per = processor, per
        self._convert = _Converter()
        self._folds: dict[str, Fold] = {}
        self._observer = observers.Observer(self._on_event, self._before_attempt)
        observers.add(self._observer)

    def close(self) -> None:
        """Send what has ended, and trace nothing more; closing twice is harmless."""
        observers.remove(self._observer)
        self._folds.clear()
        self._processor.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def flush(self) -> bool:
        """Send what has ended; return whether that succeeded within OpenTelemetry's timeout."""
        return self._processor.force_flush()

    def _on_event(self, host: Host, version: int, event: Event) -> None:
        execution = cast("Execution", host)  # only executions record events, not trials of a step
        fold = self._folds.get(execution.id)
        if fold is None:
            fold = self._folds[execution.id] = self._begin(execution, version)
        fold.add(version, event)
        if isinstance(event, LEAVES):
            self._folds.pop(execution.id, None)

    def _begin(self, execution: Execution, version: int) -> Fold:
        """Make the fold of an execution that starts here, or continues here after its recorded events."""
        workflow, caller = execution.plan.workflow, execution.context.run(_current) if version == 1 else None
        if version == 1 and execution.state.parent is None:
            return Fold(execution.id, workflow, 1, self._send, self._per, caller)
        events = execution.engine.store.events(execution.id)
        fold = Fold(execution.id, workflow, own_part(events), _nothing, self._per)
        for number, event in enumerate(events[: version - 1], start=1):
            fold.add(number, event)
        fold.emit = self._send
        return fold

    def _send(self, span: Span) -> None:
        self._processor.on_end(self._convert(span))

    def _before_attempt(self, scope: Scope) -> None:
        """Make the attempt's span the current one in its context. Its ``StepStarted`` event arrives later."""
        execution = cast("Execution", scope.execution)
        run = None
        if self._per == "run":
            run = run_of(execution.engine.store.events(execution.id))
        here = attempt_id(execution.id, scope.step, scope.visit, scope.attempt)
        self._convert.enter(trace_id(execution.id, run), here)


def trace(execution_id: ExecutionLike, *, store: Store | None = None, per: Per = "execution") -> list[Span]:
    """Return the spans of an execution, from the log; OpenTelemetry is not needed.

    Args:
        execution_id: its id or an unambiguous prefix.
        store: the log; by default the session's.
        per: what makes one trace.

    Returns:
        The spans that have ended, in order of their ends. Ids and times are those of a live trace.

    Raises:
        ExecutionNotFoundError: there is no such execution.

    Example:
        >>> log = MemoryStore()
        >>> result = release.run(store=log)
        >>> [span.attributes.get("cerebelum.step.outcome") for span in trace(result, store=log)]
        ['completed', None]
    """
    log = resolve_store(store)
    row = log.execution(execution_id)
    return spans_of(row.execution_id, row.summary.workflow, log.events(row.execution_id, upto=row.version), per)


def send(spans: Iterable[Span], endpoint: str | None = None) -> int:
    """Send spans to a collector, and return how many.

    Raises:
        CerebelumError: it could not be reached, or OpenTelemetry is not installed.
    """
    need("opentelemetry.sdk", "otel")
    from opentelemetry.sdk.trace.export import SpanExportResult

    convert = _Converter()
    known = [convert(span) for span in spans]
    exporter = _exporter(endpoint)
    try:
        for start in range(0, len(known), _BATCH):
            if exporter.export(known[start : start + _BATCH]) is not SpanExportResult.SUCCESS:
                raise CerebelumError(_NOT_TAKEN)
    except OSError as error:  # older exporters raise where others return a failure
        raise CerebelumError(_NOT_TAKEN) from error
    finally:
        exporter.shutdown()
    return len(known)


def _exporter(endpoint: str | None) -> SpanExporter:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    if endpoint is None:
        return OTLPSpanExporter()
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise CerebelumError(
            f"the address of a collector must be a URL such as http://localhost:4318, not {endpoint!r}"
        )
    whole = endpoint if parts.path.strip("/") else f"{endpoint.rstrip('/')}/v1/traces"
    return OTLPSpanExporter(endpoint=whole)


class _Converter:
    """Converts spans to OpenTelemetry's form."""

    def __init__(self) -> None:
        from importlib.metadata import version

        from opentelemetry import context
        from opentelemetry import trace as api
        from opentelemetry.sdk.trace import Event as SpanEvent
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        self._api, self._context_api = api, context
        self._span, self._event, self._unset = ReadableSpan, SpanEvent, api.Status(api.StatusCode.UNSET)
        self._flags = api.TraceFlags(api.TraceFlags.SAMPLED)
        self._scope = InstrumentationScope("cerebelum_nb", version("cerebelum_nb"))
        self._resource = _resource()

    def __call__(self, span: Span) -> ReadableSpan:
        """Convert a span."""
        error, api = span.error, self._api
        status = self._unset if error is None else api.Status(api.StatusCode.ERROR, f"{error.type}: {error.message}")
        return self._span(
            name=span.name,
            context=self._context(span.trace, span.id),
            parent=None if span.parent is None else self._context(span.trace, span.parent),
            resource=self._resource,
            attributes=span.attributes,
            events=[self._event(mark.name, mark.attributes, mark.at * 1000) for mark in span.marks],
            links=[api.Link(self._context(*link)) for link in span.links],
            kind=api.SpanKind.INTERNAL,
            status=status,
            start_time=span.start * 1000,
            end_time=span.end * 1000,
            instrumentation_scope=self._scope,
        )

    def enter(self, trace: int, span: int) -> None:
        """Make a span the current one of this context, so that spans made in it are its children."""
        here = self._api.NonRecordingSpan(self._context(trace, span))
        self._context_api.attach(self._api.set_span_in_context(here))

    def _context(self, trace: int, span: int) -> SpanContext:
        return self._api.SpanContext(trace, span, is_remote=False, trace_flags=self._flags)


def _resource() -> Resource:
    from opentelemetry.sdk.resources import Resource

    named = "OTEL_SERVICE_NAME" in os.environ or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return Resource.create({} if named else {"service.name": "cerebelum"})


def _current() -> tuple[int, int] | None:
    from opentelemetry import trace as api

    found = api.get_current_span().get_span_context()
    return (found.trace_id, found.span_id) if found.is_valid else None


def _nothing(span: Span) -> None:
    """Send nothing: the process that recorded these events has sent their spans."""
