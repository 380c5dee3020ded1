"""Counts and times for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_FIRST_TOKEN_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60)
_PER_TOKEN_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_REQUEST_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60, 150, 600)


class Metrics:
    """The server's metrics; `statistics` gives the engine's own counts at the time of asking."""

    def __init__(self, statistics: Callable[[], Any]) -> None:
        self._registry = CollectorRegistry()
        self.requests = self._counter("requests", "Requests that have ended.", "route", "status", "code")
        self.prompt_tokens = self._counter("prompt_tokens", "Tokens of the prompts of requests that were taken.")
        self.answer_tokens = self._counter("answer_tokens", "Tokens drawn.")
        self.first_token = self._histogram(
            "time_to_first_token_seconds", "From the request's arrival to an answer's first token.", _FIRST_TOKEN_S
        )
        self.per_token = self._histogram(
            "time_per_token_seconds", "Between two tokens of an answer, the first one left out.", _PER_TOKEN_S
        )
        self.seconds = self._histogram("request_seconds", "From a request's arrival to its end.", _REQUEST_S)
        for name, field, help_text in (
            ("running", "running", "Answers that the engine works on."),
            ("waiting", "waiting", "Answers that wait for the engine."),
            ("cache_pages_used", "pages_used", "Pages of the cache that are in use."),
            ("cache_pages_total", "pages_total", "Pages of the cache."),
        ):
            gauge = Gauge(f"vernacular_{name}", help_text, registry=self._registry)
            gauge.set_function(partial(_read, statistics, field))
        self._registry.register(_Totals(statistics))

    def text(self) -> bytes:
        """All of it, in Prometheus's format."""
        return generate_latest(self._registry)

    def _counter(self, name: str, help_text: str, *labels: str) -> Counter:
        return Counter(f"vernacular_{name}", help_text, labels, registry=self._registry)

    def _histogram(self, name: str, help_text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"vernacular_{name}", help_text, buckets=buckets, registry=self._registry)


class _Totals(Collector):
    """What the engine itself has counted since it was made."""

    def __init__(self, statistics: Callable[[], Any]) -> None:
        self._statistics = statistics

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Its counts at the time of asking."""
        for field, help_text in (
            ("prefix_hit_tokens", "Prompt tokens taken from another prompt's pages."),
            ("preemptions", "Answers put back for want of pages."),
        ):
            yield CounterMetricFamily(f"vernacular_{field}", help_text, value=_read(self._statistics, field))


def _read(statistics: Callable[[], Any], field: str) -> float:
    return float(getattr(statistics(), field))
