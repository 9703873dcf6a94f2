"""Who may come in, and what a page may load: token, Host, Origin, sizes, headers. Plain ASGI, below any framework."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

__all__ = ["HEADERS", "Guard"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

HEADERS = {
    b"content-security-policy": b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    b"img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'self'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cache-control": b"no-store",
    b"cross-origin-resource-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
}
"""Sent with every answer that does not say otherwise. Our pictures and bars have style attributes."""

LARGEST_BODY = 64 * 1024
LONGEST_TARGET = 8 * 1024
_DRAINED = 4 * 1024 * 1024
"""A proxy that is still sending a body would see a broken pipe: so much of it is read before it is refused."""


class Guard:
    """Lets in who has the token, from a page of ours.

    Args:
        app: what is guarded.
        token: what the printed address holds; None when the door is somewhere else (a socket in a private folder,
            behind Jupyter's login).
        hosts: the names under which the server may be addressed; None for any.
        read_only: refuse everything that changes something.
    """

    def __init__(self, app: App, *, token: str | None, hosts: Collection[str] | None, read_only: bool = False) -> None:
        self._app, self._token, self._hosts, self._read_only = app, token, hosts, read_only
        self._session = secrets.token_urlsafe(32)
        self.cookie = f"cerebelum-{secrets.token_hex(4)}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        match scope["type"]:
            case "http":
                await self._http(scope, receive, send)
            case "websocket":
                await send({"type": "websocket.close", "code": 1008})
            case _:
                await self._app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        heads: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            heads.setdefault(name.lower(), []).append(value)
        refused = self._refusal(scope, heads)
        if refused is None and self._token is not None:
            query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
            given = [value for name, value in query if name == "token"]
            if given and scope["method"] in ("GET", "HEAD") and _same(given[-1], self._token):
                await self._welcome(scope, [pair for pair in query if pair[0] != "token"], send)
                return
            if not self._is_known(heads):
                refused = 401, "Open the address that `cerebelum dashboard` printed: it has the token."
        body = b""
        if refused is None and scope["method"] == "POST":
            if self._read_only:
                refused = 403, "This dashboard is read-only."
            else:
                read, is_whole = await _read(receive, LARGEST_BODY)
                if not is_whole:
                    await _refuse(send, 413, "The form is too large.")
                    return
                body = read
        if refused is not None:
            await _read(receive, 0)
            await _refuse(send, *refused)
            return

        sent = False

        async def replay() -> Message:
            nonlocal sent
            if sent or scope["method"] != "POST":
                return await receive()
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(pair for pair in HEADERS.items() if pair[0] not in own)]
            await send(message)

        await self._app(scope, replay, dressed)

    def _refusal(self, scope: Scope, heads: dict[bytes, list[bytes]]) -> tuple[int, str] | None:
        """Say why a request is refused whoever makes it."""
        host = heads.get(b"host", [])
        if len(host) != 1:
            return 400, "A request has one Host."
        if self._hosts is not None and _name_of(host[0]) not in self._hosts:
            return 421, "This host is not served here. Start the dashboard with --allow-host HOST."
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > LONGEST_TARGET:
            return 414, "The address is too long."
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return 405, "Only GET, HEAD and POST."
        if scope["method"] != "POST":
            return None
        if not _is_same_origin(heads, host[0]):
            return 403, "The form is not of this page."
        kind = heads.get(b"content-type", [b""])[0].partition(b";")[0].strip().lower()
        if kind != b"application/x-www-form-urlencoded":
            return 415, "Only forms are taken."
        return None

    def _is_known(self, heads: dict[bytes, list[bytes]]) -> bool:
        assert self._token is not None
        for line in heads.get(b"cookie", []):
            for pair in line.decode("latin-1").split(";"):
                name, _, value = pair.strip().partition("=")
                if name == self.cookie and _same(value, self._session):
                    return True
        given = heads.get(b"authorization", [b""])[0].decode("latin-1")
        return given.startswith("Bearer ") and _same(given.removeprefix("Bearer "), self._token)

    async def _welcome(self, scope: Scope, query: list[tuple[str, str]], send: Send) -> None:
        """Take the token out of the address, and remember who brought it."""
        last = (scope.get("raw_path") or b"/").decode("latin-1").partition("?")[0].rpartition("/")[2]
        place = f"./{last}" + (f"?{urlencode(query)}" if query else "")
        cookie = f"{self.cookie}={self._session}; HttpOnly; SameSite=Strict; Path=/"
        more = [(b"location", place.encode("latin-1")), (b"set-cookie", cookie.encode())]
        await send({"type": "http.response.start", "status": 303, "headers": [*HEADERS.items(), *more]})
        await send({"type": "http.response.body", "body": b""})


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected.encode())


def _name_of(host: bytes) -> str:
    """Return a Host without its port."""
    text = host.decode("latin-1").lower()
    if text.startswith("["):
        return text.partition("]")[0] + "]"
    return text.rpartition(":")[0] or text


def _is_same_origin(heads: dict[bytes, list[bytes]], host: bytes) -> bool:
    """Whether a browser says that a page of this server sent the form; without such a word it is not."""
    site = heads.get(b"sec-fetch-site")
    if site is not None:
        return site == [b"same-origin"]
    origin = heads.get(b"origin", [])
    return len(origin) == 1 and origin[0].lower() in (b"http://" + host.lower(), b"https://" + host.lower())


async def _read(receive: Receive, most: int) -> tuple[bytes, bool]:
    """Read a body to its end, and keep it if it is not larger; of one that does not end so much is read."""
    kept, size, is_whole = b"", 0, True
    while size <= _DRAINED:
        message = await receive()
        if message["type"] != "http.request":
            return b"", False
        piece = message.get("body", b"")
        size += len(piece)
        is_whole = size <= most
        kept = kept + piece if is_whole else b""
        if not message.get("more_body"):
            break
    return kept, is_whole


async def _refuse(send: Send, status: int, text: str) -> None:
    more = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": status, "headers": [*HEADERS.items(), *more]})
    await send({"type": "http.response.body", "body": f"{text}\n".encode()})
