"""What the server counts, for Prometheus."""

import logging
import time
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.champion import Follower

log = logging.getLogger("digits")


class Metrics:
    """Counters and gauges of one server.

    Args:
        follower: Its champion is what the gauges tell of.
    """

    def __init__(self, follower: Follower) -> None:
        self.registry = CollectorRegistry()
        self._follower = follower
        of_ours: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter(
            "digits_requests", "Requests, by path and status.", ["path", "status"], **of_ours
        )
        self.seconds = Histogram(
            "digits_request_seconds",
            "Seconds from a request's head to the end of its answer.",
            ["path"],
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
            **of_ours,
        )
        self.predictions = Counter(
            "digits_predictions", "Images answered, by digit and version.",
            ["digit", "version"], **of_ours,
        )  # fmt: skip
        self.confidence = Histogram(
            "digits_confidence",
            "Probability of the digit that was answered.",
            buckets=(0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 1),
            **of_ours,
        )
        self.corrections = Counter("digits_corrections", "Corrections that were kept.", **of_ours)
        Gauge(
            "digits_champion_refused",
            "1 while the model that the pointer names is refused and the last good one answers.",
            **of_ours,
        ).set_function(lambda: follower.refused is not None)
        self.registry.register(self)

    def collect(self) -> list[GaugeMetricFamily]:
        """Say which version answers, as prometheus_client asks its collectors."""
        champion = self._follower.champion
        info = GaugeMetricFamily(
            "digits_champion_info", "The version that answers.", labels=["dataset", "version"]
        )
        info.add_metric([champion.dataset, champion.pointer.version], 1)
        generation = GaugeMetricFamily(
            "digits_champion_generation", "Rises by one with each promotion and rollback.",
            value=champion.pointer.generation,
        )  # fmt: skip
        return [info, generation]

    def predicted(self, version: str, answer: dict[str, Any]) -> None:
        """Count an answer."""
        self.predictions.labels(answer["digit"], version).inc()
        self.confidence.observe(answer["probability"])


class Counted:
    """ASGI middleware, the outermost: each request is counted, and a defect is no 500.

    Args:
        app: What answers.
        metrics: Where it is counted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, and count."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, counted)
        except Exception:
            log.exception("%s %s", scope["method"], scope["path"])
            if not status:
                said = JSONResponse({"detail": "this was not foreseen; see the server's log"}, 503)
                await said(scope, receive, counted)
        finally:
            # Only our own paths, or whoever asks for others would make as many labels.
            route = scope.get("route")
            path = getattr(route, "path", "other")
            self._metrics.requests.labels(path, status).inc()
            self._metrics.seconds.labels(path).observe(time.perf_counter() - began)
