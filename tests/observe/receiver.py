"""A webhook on loopback: it keeps the requests, and answers with the statuses that a test chooses."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Receiver:
    def __init__(self):
        self.requests = []
        self.answers = []  # statuses of the next answers; then 200

        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler):  # noqa: N805 - self is the receiver
                body = handler.rfile.read(int(handler.headers["Content-Length"]))
                self.requests.append(
                    (handler.path, {name.lower(): value for name, value in handler.headers.items()}, body)
                )
                handler.send_response(self.answers.pop(0) if self.answers else 200)
                handler.send_header("Content-Length", "0")
                handler.end_headers()

            def log_message(handler, *_):  # noqa: N805 - likewise
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    @property
    def messages(self):
        return [json.loads(body) for _, _, body in self.requests]

    @property
    def titles(self):
        return [message["title"] for message in self.messages]

    def close(self):
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()
