"""What ``/metrics`` shows, in Prometheus' text format. Nothing of it tells what was said."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

_SECONDS = (0.1, 0.2, 0.3, 0.5, 0.8, 1.2, 2.0, 3.0, 5.0, 8.0, 13.0, 20.0, 40.0, 80.0, 160.0)


class Metrics:
    """The measures of one server."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.requests = Counter(
            "chelys_requests", "Requests by path and status.", ["path", "status"], registry=registry
        )
        self.requests_waiting = Gauge(
            "chelys_requests_in_work", "Texts that are spoken or wait for it.", registry=registry
        )
        self.rows = Gauge("chelys_decoder_rows", "Candidates that are being sampled.", registry=registry)
        self.steps = Counter("chelys_decoder_steps", "Steps of the autoregressive decoder.", registry=registry)
        self.stepped_rows = Counter(
            "chelys_decoder_row_steps", "Steps times the rows that took part.", registry=registry
        )
        self.cancelled = Counter("chelys_cancelled", "Requests whose client left before the end.", registry=registry)
        self.audio_seconds = Counter("chelys_audio_seconds", "Speech that was made, seconds.", registry=registry)
        self.first_audio = Histogram(
            "chelys_first_audio_seconds", "From the request to its first audio.", buckets=_SECONDS, registry=registry
        )
        self.whole = Histogram(
            "chelys_speech_seconds", "From the request to its last audio.", buckets=_SECONDS, registry=registry
        )
        self.render_seconds = Histogram(
            "chelys_render_seconds", "Ranking and rendering of a sentence.", buckets=_SECONDS, registry=registry
        )

    def watch(self, name: str, pid: int) -> None:
        """Show memory and processor time of a further process, under its name."""
        ProcessCollector(namespace=name, pid=lambda: pid, registry=self.registry)

    def text(self) -> bytes:
        """All of it."""
        return generate_latest(self.registry)
