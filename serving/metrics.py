"""Metrics in Prometheus' format, and the middleware that counts requests."""

import logging
import time
from functools import cache
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.champion import ChampionWatcher

log = logging.getLogger("digits")


class Metrics:
    """Counters and gauges of one server."""

    def __init__(self, watcher: ChampionWatcher) -> None:
        self.registry = CollectorRegistry()
        self._watcher = watcher
        own: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter(
            "digits_requests", "Requests, by path and status.", ["path", "status"], **own
        )
        self.seconds = Histogram(
            "digits_request_seconds",
            "Seconds from a request's head to the end of its response.",
            ["path"],
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
            **own,
        )
        self.predictions = Counter(
            "digits_predictions", "Predicted images, by digit and version.",
            ["digit", "version"], **own,
        )  # fmt: skip
        self.confidence = Histogram(
            "digits_confidence",
            "Probability of the predicted digit.",
            buckets=(0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 1),
            **own,
        )
        self.corrections = Counter("digits_corrections", "Stored corrections.", **own)
        Gauge(
            "digits_champion_refused",
            "1 while the promoted model is refused and the last good one is serving.",
            **own,
        ).set_function(lambda: watcher.refused is not None)
        Gauge(
            "digits_champion_generation", "Rises by one with each promotion and rollback.", **own
        ).set_function(lambda: watcher.champion.pointer.generation)
        self.registry.register(self)
        # labels() formats its values and takes a lock each time.
        self._of_prediction = cache(self.predictions.labels)
        self._of_request = cache(self.requests.labels)
        self._of_path = cache(self.seconds.labels)

    def collect(self) -> list[GaugeMetricFamily]:
        """Describe the version that is serving, as a prometheus_client collector."""
        champion = self._watcher.champion
        info = GaugeMetricFamily(
            "digits_champion_info", "The version that is serving.", labels=["dataset", "version"]
        )
        info.add_metric([champion.dataset, champion.pointer.version], 1)
        return [info]

    def count_prediction(self, version: str, prediction: dict[str, Any]) -> None:
        """Count a prediction."""
        self._of_prediction(prediction["digit"], version).inc()
        self.confidence.observe(prediction["probability"])

    def count_request(self, path: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._of_request(path, status).inc()
        self._of_path(path).observe(seconds)


class MetricsMiddleware:
    """Outermost ASGI middleware: counts each request, and turns a defect into a 503."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def send_counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_counted)
        except Exception:
            log.exception("%s %s", scope["method"], scope["path"])
            if not status:
                response = JSONResponse({"detail": "internal error; see the server log"}, 503)
                await response(scope, receive, send_counted)
        finally:
            # Only known paths: each label costs memory, and clients choose the others.
            path = getattr(scope.get("route"), "path", "other")
            self._metrics.count_request(path, status, time.perf_counter() - began)
