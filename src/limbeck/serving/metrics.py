"""Counts of a server, as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPENMETRICS
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

__all__ = ["PLAIN", "Metrics"]

PLAIN = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_TOKENS = (64, 256, 1024, 2048, 4096, 8192, 16384, 65536)


class Metrics:
    """The metrics of one server, in a registry of their own.

    Args:
        encoder: name and version of what is served.
    """

    def __init__(self, encoder: str, version: str) -> None:
        self.registry = CollectorRegistry()
        # Memory, processor seconds, open files: a leak shows here.
        ProcessCollector(registry=self.registry)
        Gauge("limbeck_info", "What is served.", ["encoder", "version"], registry=self.registry).labels(
            encoder, version
        ).set(1)
        self._requests = Counter(
            "limbeck_requests", "Requests by path and status; 499 is a client that went away.",
            ["path", "status"], registry=self.registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "limbeck_request_seconds", "From the head of a request to the end of its answer.",
            ["path"], buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self._batch_seconds = Histogram(
            "limbeck_batch_seconds", "Computing a batch.", ["kind"], buckets=_SECONDS, registry=self.registry
        )
        self._batch_tokens = Histogram(
            "limbeck_batch_tokens", "Tokens in a batch.", ["kind"], buckets=_TOKENS, registry=self.registry
        )

    def request(self, path: str, status: int, seconds: float) -> None:
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def batch(self, kind: str, tokens: int, seconds: float) -> None:
        self._batch_seconds.labels(kind).observe(seconds)
        self._batch_tokens.labels(kind).observe(tokens)

    def watch(self, name: str, meaning: str, value: Callable[[], float]) -> None:
        """A gauge that is read when it is asked for."""
        Gauge(name, meaning, registry=self.registry).set_function(value)

    def text(self, accept: str) -> tuple[bytes, str]:
        """All metrics, and their content type: OpenMetrics for whoever asks for it, else the plain format."""
        if "application/openmetrics-text" in accept:
            return generate_openmetrics(self.registry), OPENMETRICS
        return generate_latest(self.registry), PLAIN
