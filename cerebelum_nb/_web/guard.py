"""Access control: token, Host, Origin, sizes, and the headers that limit what a page may load. Plain ASGI.

A browser sends the cookies of a host to all its ports, so any other server on this machine that it visits would receive
a cookie of the whole host, and could use it. Therefore all pages are in a folder whose name is as secret as the token
(the *door*), and the cookie is limited to that folder: the browser sends it to no other server.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

__all__ = ["HEADERS", "Guard"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

HEADERS = {
    b"content-security-policy": b"default-src 'none'; script-src 'self'; style-src-elem 'self'; "
    b"style-src-attr 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    b"frame-ancestors 'self'; require-trusted-types-for 'script'; trusted-types cerebelum",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cache-control": b"no-store",
    b"cross-origin-resource-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
}
"""Sent with every response that does not set its own. Styles are allowed only in attributes, which our pictures and
bars use: CSS smuggled into one can select nothing else. The script makes HTML only with the policy `cerebelum`."""

LARGEST_BODY = 64 * 1024
LONGEST_TARGET = 8 * 1024
_FORM, _JSON = b"application/x-www-form-urlencoded", b"application/json"
_REMEMBERED_SECONDS = 30 * 86_400
_UNQUOTED = "/%?&=~+:;,.-_!$'()*@"
"""Characters of an address that are not quoted."""
_MOST_DRAINED = 4 * 1024 * 1024
"""Bytes of a refused body that are read: otherwise a proxy that is still sending gets a broken pipe."""


class Guard:
    """Admits requests that have the token or its cookie, and forms only from our own pages.

    Args:
        app: the application behind the guard.
        token: the token in the printed address; None if something else controls access (a socket in a private folder,
            Jupyter's login).
        hosts: the names under which the server may be addressed; None for any.
        read_only: refuse every request that changes something.
    """

    def __init__(self, app: App, *, token: str | None, hosts: Collection[str] | None, read_only: bool = False) -> None:
        self._app, self._token, self._hosts, self._read_only = app, token, hosts, read_only
        self.door = f"~{self._derive('door')[:22]}"
        self.cookie, self._session = f"cerebelum-{self._derive('cookie')[:8]}", self._derive("session")

    def _derive(self, what: str) -> str:
        """Derive a secret from the token, so that addresses and cookies stay valid as long as the token."""
        return hmac.digest((self._token or "").encode(), what.encode(), "sha256").hex()

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
            given = _query_value(scope, "token")
            if given is not None and scope["method"] in ("GET", "HEAD") and _is_equal(given, self._token):
                await self._sign_in(scope, send)
                return
            if self._is_behind_door(scope):
                is_known, scope = self._has_cookie(heads), self._inside(scope)
            else:
                is_known = self._has_token(heads)
            if not is_known:
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

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(pair for pair in HEADERS.items() if pair[0] not in own)]
            await send(message)

        await self._app(scope, replay, send_with_headers)

    def _refusal(self, scope: Scope, heads: dict[bytes, list[bytes]]) -> tuple[int, str] | None:
        """Return why a request is refused even with the token; None if it is not."""
        host = heads.get(b"host", [])
        if len(host) != 1:
            return 400, "A request needs exactly one Host header."
        if self._hosts is not None and _name_of(host[0]) not in self._hosts:
            return 421, "This host is not served here. Start the dashboard with --allow-host HOST."
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > LONGEST_TARGET:
            return 414, "The address is too long."
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return 405, "Only GET, HEAD and POST are allowed."
        if scope["method"] != "POST":
            return None
        kind = heads.get(b"content-type", [b""])[0].partition(b";")[0].strip().lower()
        if not _is_ours(heads, host[0], kind):
            return 403, "This request came from another site. Open the dashboard by its own address and try again."
        if kind not in (_FORM, _JSON):
            return 415, "Only forms and JSON are accepted."
        return None

    def _is_behind_door(self, scope: Scope) -> bool:
        return _is_equal(scope["path"].partition("/")[2].partition("/")[0], self.door)

    def _inside(self, scope: Scope) -> Scope:
        """Return a request without the door in its path."""
        raw = _raw_path(scope)[len(self.door) + 1 :] or b"/"
        return {**scope, "path": scope["path"][len(self.door) + 1 :] or "/", "raw_path": raw}

    def _has_cookie(self, heads: dict[bytes, list[bytes]]) -> bool:
        for line in heads.get(b"cookie", []):
            for pair in line.decode("latin-1").split(";"):
                name, _, value = pair.strip().partition("=")
                if name == self.cookie and _is_equal(value, self._session):
                    return True
        return False

    def _has_token(self, heads: dict[bytes, list[bytes]]) -> bool:
        assert self._token is not None
        given = heads.get(b"authorization", [b""])[0].decode("latin-1")
        return given.startswith("Bearer ") and _is_equal(given.removeprefix("Bearer "), self._token)

    async def _sign_in(self, scope: Scope, send: Send) -> None:
        """Redirect a client that sent the token to the door; there, replace the token in the address by a cookie.

        The cookie has no path of its own, so the browser limits it to the folder of this response, also below a path
        that a proxy adds.
        """
        path = _raw_path(scope).decode("latin-1")
        if path == f"/{self.door}/":
            place = "./" + quote(_query_value(scope, "next") or "", safe=_UNQUOTED)
            cookie = f"{self.cookie}={self._session}; HttpOnly; SameSite=Strict; Max-Age={_REMEMBERED_SECONDS}"
            more = [(b"set-cookie", cookie.encode())]
        else:
            inside = path.removeprefix(f"/{self.door}")
            query = [pair for pair in _query(scope) if pair[0] != "token"]
            wanted = inside.lstrip("/") + (f"?{urlencode(query)}" if query else "")
            query_text = urlencode({"token": self._token or "", **({"next": wanted} if wanted else {})})
            place, more = "../" * (path.count("/") - 1) + f"./{self.door}/?{query_text}", []
        heads = [*HEADERS.items(), (b"location", place.encode("latin-1")), *more]
        await send({"type": "http.response.start", "status": 303, "headers": heads})
        await send({"type": "http.response.body", "body": b""})


def _query(scope: Scope) -> list[tuple[str, str]]:
    return parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)


def _query_value(scope: Scope, name: str) -> str | None:
    """Return the last value of a name in the query; None if there is none."""
    return next((value for other, value in reversed(_query(scope)) if other == name), None)


def _raw_path(scope: Scope) -> bytes:
    return bytes(scope.get("raw_path") or scope["path"].encode()).partition(b"?")[0]


def _is_equal(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected.encode())


def _name_of(host: bytes) -> str:
    """Return a Host without its port."""
    text = host.decode("latin-1").lower()
    if text.startswith("["):
        return text.partition("]")[0] + "]"
    return text.rpartition(":")[0] or text


def _is_ours(heads: dict[bytes, list[bytes]], host: bytes, kind: bytes) -> bool:
    """Whether a request comes from a page of this server, or from a program.

    A browser names the origin of every POST, and asks before a page of another origin may send JSON. So a request that
    names no origin and sends JSON does not come from a page, even if a proxy adds the token to all requests.
    """
    site, origin = heads.get(b"sec-fetch-site"), heads.get(b"origin")
    if site is not None:
        return site == [b"same-origin"]
    if origin is not None:
        return len(origin) == 1 and origin[0].lower() in (b"http://" + host.lower(), b"https://" + host.lower())
    return kind == _JSON


async def _read(receive: Receive, most: int) -> tuple[bytes, bool]:
    """Read a body to its end or to `_MOST_DRAINED`; return it, and whether it has at most ``most`` bytes."""
    kept, size, is_whole = b"", 0, True
    while size <= _MOST_DRAINED:
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
