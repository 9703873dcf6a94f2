"""Serves metrics to Prometheus over HTTP, read-only."""

from __future__ import annotations

import logging
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self

from ..errors import CerebelumError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.registry import Collector

__all__ = ["Exporter", "Scrapes", "as_text"]

log = logging.getLogger("cerebelum_nb")

_HOME = b"<!DOCTYPE html><title>cerebelum metrics</title><p>The metrics are at <a href='metrics'>/metrics</a>.\n"


def as_text(collector: Collector) -> str:
    """Return metrics in the text format of Prometheus."""
    from prometheus_client import generate_latest

    return generate_latest(_registry(collector)).decode()


def _registry(collector: Collector) -> CollectorRegistry:
    from prometheus_client import CollectorRegistry

    registry = CollectorRegistry()
    registry.register(collector)
    return registry


class Scrapes:
    """Answers scrapes with the metrics of a collector, in the format that a scrape accepts."""

    def __init__(self, collector: Collector) -> None:
        self._registry = _registry(collector)

    def answer(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics, and their content type.

        Raises:
            StoreError: the log cannot be read.
        """
        from prometheus_client.exposition import choose_encoder

        encode, kind = choose_encoder(accept)
        return encode(self._registry), kind


class Exporter:
    """Serves metrics at ``/metrics`` until it is closed.

    Args:
        collector: the metrics to serve.
        host: the address to listen on.
        port: the port; 0 chooses a free one.

    Raises:
        CerebelumError: it cannot listen there.

    Example:
        >>> from cerebelum_nb._observe.metrics import ProcessMetrics
        >>> with Exporter(ProcessMetrics(), port=0) as exporter:
        ...     exporter.url.startswith("http://127.0.0.1:")
        True
    """

    def __init__(self, collector: Collector, host: str = "127.0.0.1", port: int = 9464) -> None:
        try:
            self._server = _Server((host, port), Scrapes(collector))
        except OSError as error:
            raise CerebelumError(
                f"cannot listen on {host}:{port} ({error.strerror}): choose another with --port, or --port 0 for a "
                "free one"
            ) from error
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._server.server_port}/metrics"
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving; closing twice is harmless."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], scrapes: Scrapes) -> None:
        if ":" in address[0]:
            import socket

            self.address_family = socket.AF_INET6
        self.scrapes = scrapes
        self.last_warning = ""
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 30
    server_version = "cerebelum"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer a scrape."""
        path = self.path.partition("?")[0]
        if path == "/":
            self._answer(HTTPStatus.OK, "text/html; charset=utf-8", _HOME)
        elif path != "/metrics":
            self._answer(HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", b"The metrics are at /metrics.\n")
        else:
            self._scrape()

    do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

    def _scrape(self) -> None:
        try:
            found, kind = self.server.scrapes.answer(self.headers.get("Accept", ""))
        except CerebelumError as error:
            if self.server.last_warning != str(error):  # once, not at every scrape
                self.server.last_warning = str(error)
                log.warning("the metrics cannot be read: %s", error)
            body = f"{error}\n".encode(errors="replace")
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, "text/plain; charset=utf-8", body)
            return
        self.server.last_warning = ""
        self._answer(HTTPStatus.OK, kind, found)

    def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the name of the method it replaces
        """Do not log each scrape."""
