"""The metrics of a dashboard's logs for Prometheus, counted from the first scrape on."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from .._observe.metrics import LogMetrics
from .._observe.serve import Scrapes
from ..errors import CerebelumError, StoreError

if TYPE_CHECKING:
    from .logs import Logs, ShownLog

__all__ = ["Metrics"]


class Metrics:
    """The metrics of some logs; it keeps a reader for each log that was scraped."""

    def __init__(self, logs: Logs) -> None:
        self._logs = logs
        self._kept: dict[str, tuple[LogMetrics, Scrapes]] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Stop following the logs."""
        for metrics, _ in self._kept.values():
            metrics.close()

    def of_only_log(self, request: Request) -> Response:
        """Answer a scrape of a dashboard with a single log."""
        if len(self._logs) != 1:
            names = ", ".join(f"/{name}/metrics" for name in self._logs)
            return PlainTextResponse(f"There is more than one log: {names}\n", 404)
        return self._scraped(next(iter(self._logs.values())), request)

    def of_log(self, request: Request) -> Response:
        """Answer a scrape."""
        return self._scraped(self._logs.named(request.path_params["log"]), request)

    def _scraped(self, log: ShownLog, request: Request) -> Response:
        with self._lock:
            try:
                if log.name not in self._kept:
                    metrics = LogMetrics(log.path)
                    self._kept[log.name] = metrics, Scrapes(metrics)
                body, kind = self._kept[log.name][1].answer(request.headers.get("accept", ""))
            except CerebelumError as error:
                if isinstance(error, StoreError) and log.name in self._kept:  # the file was replaced: start again
                    self._kept.pop(log.name)[0].close()
                return PlainTextResponse(f"{error}\n", 503)
        return Response(body, headers={"content-type": kind})
