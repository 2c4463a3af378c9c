"""Spans for OpenTelemetry: one per request, sent by the SDK's own thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidewheel.errors import InvalidInput, MissingExtra
from tidewheel.serving.access import Trace, Visit

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter


class OtelSpans:
    """Gives each request a span below the caller's, and hands it to an exporter in the background."""

    def __init__(self, exporter: SpanExporter) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        self._provider = TracerProvider(resource=Resource.create({"service.name": "tidewheel"}))
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("tidewheel.serving")

    def span(self, visit: Visit, status: int, ended: int) -> Trace | None:
        """Take a finished request; return its place in the trace."""
        from opentelemetry import trace

        context = None
        if visit.parent is not None:
            parent = trace.SpanContext(
                int(visit.parent.trace_id, 16),
                int(visit.parent.span_id, 16),
                is_remote=True,
                trace_flags=trace.TraceFlags(int(visit.parent.flags, 16)),
            )
            context = trace.set_span_in_context(trace.NonRecordingSpan(parent))
        attributes: dict[str, str | int] = {
            "http.request.method": visit.method,
            "url.path": visit.path[:300],
            "http.response.status_code": status,
        }
        if visit.model:
            attributes |= {"tidewheel.model": visit.model, "tidewheel.version": visit.version}
        span = self._tracer.start_span(
            f"{visit.method} {visit.model or visit.path[:100]}",
            context,
            trace.SpanKind.SERVER,
            attributes,
            start_time=visit.started,
        )
        if status >= 500:
            span.set_status(trace.StatusCode.ERROR)
        span.end(ended)
        own = span.get_span_context()
        return Trace(f"{own.trace_id:032x}", f"{own.span_id:016x}", f"{own.trace_flags:02x}")

    def close(self) -> None:
        """Send what waits."""
        self._provider.shutdown()


def otel_spans(collector: str) -> OtelSpans:
    """Return spans that go to a collector over OTLP and HTTP.

    Raises MissingExtra without the OpenTelemetry packages, InvalidInput for what is no address.
    """
    if not collector.startswith(("http://", "https://")):
        raise InvalidInput(f"The setting otel = {collector!r} is no address.", "Give http://host:4318 or https://...")
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise MissingExtra("opentelemetry-exporter-otlp-proto-http", "otel") from error
    return OtelSpans(OTLPSpanExporter(endpoint=f"{collector.rstrip('/')}/v1/traces"))
