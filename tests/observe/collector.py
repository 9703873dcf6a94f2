"""A collector of traces on loopback, which decodes OTLP."""

from __future__ import annotations

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Collector:
    def __init__(self):
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        self.spans = {}  # by id
        self.services = set()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler):  # noqa: N805 - self is the collector
                body = handler.rfile.read(int(handler.headers["Content-Length"]))
                if handler.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                assert handler.path == "/v1/traces"
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    about = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
                    self.services.add(about["service.name"])
                    for scope in resource.scope_spans:
                        for span in scope.spans:
                            self.spans.setdefault(span.span_id.hex(), []).append(span)
                handler.send_response(200)
                handler.send_header("Content-Length", "0")
                handler.end_headers()

            def log_message(handler, *_):  # noqa: N805 - likewise
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    @property
    def names(self):
        return sorted(spans[0].name for spans in self.spans.values())

    def named(self, name):
        (found,) = (spans for spans in self.spans.values() if spans[0].name == name)
        return found

    def orphans(self):
        return [
            spans[0].name
            for spans in self.spans.values()
            if spans[0].parent_span_id and spans[0].parent_span_id.hex() not in self.spans
        ]

    def close(self):
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()
