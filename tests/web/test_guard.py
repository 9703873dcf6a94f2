"""Access control: the guard, or the application behind it, answers every request here."""

from __future__ import annotations

import asyncio
from urllib.parse import urlencode

import httpx
import pytest

from .conftest import SAME, Caller, Page

TOKEN = "t0ken-" + "x" * 26
APPROVE = "/shop/e/asking-1/approve"
FORM = {"content-type": "application/x-www-form-urlencoded"}
JSON = {"content-type": "application/json"}
BEARER = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def locked(log):
    """The dashboard behind its token."""
    caller = Caller(log, token=TOKEN)
    yield caller
    caller.close()


@pytest.fixture(scope="module")
def refusing(made):
    """A dashboard whose guard refuses every request, so that the log that all tests share is safe."""
    caller = Caller(made, token=TOKEN)
    yield caller
    caller.close()


def cookie_of(caller: Caller) -> str:
    """Open the printed address, and return the cookie that is set."""
    door = caller("GET", f"/?token={TOKEN}").headers["location"].removeprefix(".")
    return caller("GET", door).headers["set-cookie"].partition(";")[0]


REFUSED = [
    # no token, or a wrong one
    ("GET", "/", {}, None, 401),
    ("GET", "/shop/", {}, None, 401),
    ("GET", "/shop/feed", {}, None, 401),
    ("GET", "/shop/e/done-1", {}, None, 401),
    ("GET", "/shop/api/executions", {}, None, 401),
    ("GET", "/static/live.js", {}, None, 401),
    ("GET", "/none", {}, None, 401),
    ("HEAD", "/shop/", {}, None, 401),
    ("GET", "/?token=", {}, None, 401),
    ("GET", "/?token=wrong", {}, None, 401),
    ("GET", f"/?token={TOKEN[:-1]}", {}, None, 401),
    ("GET", f"/?token={TOKEN}x", {}, None, 401),
    ("GET", f"/?TOKEN={TOKEN}", {}, None, 401),
    ("GET", "/?token=%C3%A9", {}, None, 401),
    ("GET", "/shop/", {"cookie": "cerebelum=1; x=y"}, None, 401),
    ("GET", "/shop/", {"authorization": "Bearer wrong"}, None, 401),
    ("GET", "/shop/", {"authorization": f"Basic {TOKEN}"}, None, 401),
    ("GET", "/shop/", {"authorization": f"token {TOKEN}"}, None, 401),
    ("POST", f"{APPROVE}?token={TOKEN}", {**SAME, **FORM}, "by=x", 401),
    # another host: DNS rebinding
    ("GET", "/", {**BEARER, "host": "evil.example"}, None, 421),
    ("GET", "/", {**BEARER, "host": "evil.example:8799"}, None, 421),
    ("GET", "/", {**BEARER, "host": "127.0.0.1.evil.example"}, None, 421),
    ("GET", "/", {**BEARER, "host": "localhost.evil.example:80"}, None, 421),
    ("GET", "/", {**BEARER, "host": "[::2]:8799"}, None, 421),
    ("GET", "/", {**BEARER, "host": ""}, None, 421),
    ("GET", f"/?token={TOKEN}", {"host": "evil.example"}, None, 421),
    # forms of other pages: CSRF
    ("POST", APPROVE, {**BEARER, **FORM}, "by=x", 403),
    ("POST", APPROVE, {**BEARER, **FORM, "sec-fetch-site": "cross-site"}, "by=x", 403),
    ("POST", APPROVE, {**BEARER, **FORM, "sec-fetch-site": "same-site"}, "by=x", 403),
    ("POST", APPROVE, {**BEARER, **FORM, "sec-fetch-site": "none"}, "by=x", 403),
    ("POST", APPROVE, {**BEARER, **FORM, "origin": "null"}, "by=x", 403),
    ("POST", APPROVE, {**BEARER, **FORM, "origin": "http://evil.example"}, "by=x", 403),
    ("POST", APPROVE, {**BEARER, **FORM, "origin": "http://127.0.0.1:9999"}, "by=x", 403),
    ("POST", APPROVE, {**BEARER, **FORM, "origin": "http://127.0.0.1"}, "by=x", 403),
    ("POST", APPROVE, {**BEARER, **FORM, "origin": "ftp://127.0.0.1:8799"}, "by=x", 403),
    (
        "POST",
        APPROVE,
        {**BEARER, **FORM, "sec-fetch-site": "cross-site", "origin": "http://127.0.0.1:8799"},
        "by=x",
        403,
    ),
    ("POST", APPROVE, {**BEARER, **SAME, "content-type": "text/plain"}, "by=x", 415),
    ("POST", APPROVE, {**BEARER, **JSON, "sec-fetch-site": "cross-site"}, "{}", 403),
    ("POST", APPROVE, {**BEARER, **JSON, "origin": "http://evil.example"}, "{}", 403),
    ("POST", "/shop/api/executions/asking-1/approve", {**JSON}, "{}", 401),
    ("POST", "/shop/api/executions/asking-1/approve", {**BEARER, **FORM}, "by=x", 403),
    ("POST", "/shop/api/executions/asking-1/approve", {**BEARER, "content-type": "text/plain"}, "{}", 403),
    ("POST", "/shop/api/executions/asking-1/prune", {**BEARER, **JSON}, "{}", 404),
    ("POST", "/shop/api/executions/failed-1/resume", {**BEARER, **JSON}, "{}", 403),
    ("GET", "/metrics", {}, None, 401),
    ("GET", "/shop/metrics", {}, None, 401),
    ("GET", "/~/shop/", {}, None, 401),
    ("GET", "/~0000000000000000000000/shop/", {}, None, 401),
    ("POST", APPROVE, {**BEARER, **SAME, "content-type": "multipart/form-data; boundary=a"}, "--a--", 415),
    # methods and sizes
    ("PUT", APPROVE, {**BEARER, **SAME, **FORM}, "by=x", 405),
    ("DELETE", "/shop/e/done-1", {**BEARER, **SAME}, None, 405),
    ("PATCH", "/shop/e/done-1", {**BEARER, **SAME}, None, 405),
    ("OPTIONS", "/shop/", {**BEARER, "origin": "http://evil.example"}, None, 405),
    ("TRACE", "/shop/", BEARER, None, 405),
    ("POST", "/shop/", {**BEARER, **SAME, **FORM}, "a=b", 405),
    ("GET", "/shop/e/asking-1/approve", BEARER, None, 405),
    ("POST", APPROVE, {**BEARER, **SAME, **FORM}, "reason=" + "x" * 70_000, 413),
    ("GET", "/shop/?q=" + "x" * 9_000, BEARER, None, 414),
    # other paths than those of pages
    ("GET", "/static/../guard.py", BEARER, None, 404),
    ("GET", "/static/%2e%2e%2fguard.py", BEARER, None, 404),
    ("GET", "/static/..%5cguard.py", BEARER, None, 404),
    ("GET", "/..%2f..%2fetc/passwd", BEARER, None, 404),
    ("GET", "/shop/e/..%2f..%2fetc%2fpasswd", BEARER, None, 404),
    ("GET", "/shop/e/~2e~2e~2fshop.db", BEARER, None, 404),
    ("GET", "/shop/e/done-1/step/..%2f..%2fx", BEARER, None, 404),
    ("GET", "/%2f%2fevil.example/", BEARER, None, 404),
    ("GET", "/shop.db/", BEARER, None, 404),
    # what has to be allowed when the dashboard is started
    ("POST", "/shop/e/failed-1/resume", {**BEARER, **SAME, **FORM}, "", 403),
    ("POST", "/shop/e/failed-1/fork", {**BEARER, **SAME, **FORM}, "step=build", 403),
    ("POST", "/shop/e/failed-1/prune", {**BEARER, **SAME, **FORM}, "", 404),
]


@pytest.mark.parametrize(("method", "path", "headers", "body", "status"), REFUSED)
def test_it_is_refused(refusing, method, path, headers, body, status):
    answer = refusing(method, path, body, **headers)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert answer.headers["cache-control"] == "no-store"
    assert TOKEN not in answer.text


def test_the_token_is_taken_out_of_the_address_and_a_cookie_kept_for_it(locked):
    asked = f"/shop/e/done-1?type=StepFailed&token={TOKEN}"
    first = locked("GET", asked)
    assert first.status_code == 303 and "set-cookie" not in first.headers
    behind_proxy = httpx.URL(f"https://runs.example/team{asked}").join(first.headers["location"])
    assert behind_proxy.path == f"/team/{locked.guard.door}/"
    second = locked("GET", f"/{locked.guard.door}/?{behind_proxy.query.decode()}")
    assert second.headers["location"] == "./shop/e/done-1?type=StepFailed"
    cookie = second.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and TOKEN not in cookie
    assert locked("GET", f"/{locked.guard.door}/shop/", cookie=cookie.partition(";")[0]).status_code == 200


@pytest.mark.parametrize("next_", ["//evil.example/", "https://evil.example", "\\\\evil.example", "a\r\nb: c", "é"])
def test_signing_in_never_redirects_to_another_site(locked, next_):
    answer = locked("GET", f"/{locked.guard.door}/?{urlencode({'token': TOKEN, 'next': next_})}")
    door = httpx.URL(f"http://127.0.0.1:8799/{locked.guard.door}/")
    assert str(door.join(answer.headers["location"])).startswith(str(door))


def test_a_cookie_is_limited_to_a_folder_that_no_other_server_of_this_machine_knows(locked):
    """Browsers send the cookies of 127.0.0.1 to all its ports, but only below the folder in which they were set."""
    answer = locked("GET", f"/{locked.guard.door}/?token={TOKEN}")
    cookie = answer.headers["set-cookie"]
    assert "Path=" not in cookie and "Domain=" not in cookie  # so it is one of the folder of that address
    name_and_value = cookie.partition(";")[0]
    assert locked("GET", "/shop/", cookie=name_and_value).status_code == 401
    assert locked("GET", "/~0000000000000000000000/shop/", cookie=name_and_value).status_code == 401


def test_a_cookie_is_known_among_others(locked):
    inside = f"/{locked.guard.door}/shop/"
    assert locked("GET", inside, cookie=f"a=b; {cookie_of(locked)}; c").status_code == 200
    assert locked("GET", inside).status_code == 401


def test_addresses_and_cookies_are_the_same_at_the_next_start_with_the_same_token(locked, log):
    again = Caller(log, token=TOKEN)
    assert again("GET", f"/{locked.guard.door}/shop/", cookie=cookie_of(locked)).status_code == 200
    again.close()


def test_a_cookie_of_another_dashboard_is_refused(locked, log):
    other = Caller(log, token="another" + TOKEN)
    door = f"/{other.guard.door}/?token=another{TOKEN}"
    cookie = other("GET", door).headers["set-cookie"].partition(";")[0]
    assert locked("GET", f"/{locked.guard.door}/shop/", cookie=cookie).status_code == 401
    other.close()


@pytest.mark.parametrize("host", ["127.0.0.1:8799", "localhost:1", "LOCALHOST", "[::1]:8799"])
def test_the_names_of_this_machine_are_served(locked, host):
    assert locked("GET", "/shop/", host=host, **BEARER).status_code == 200


@pytest.mark.parametrize("proof", [SAME, {"origin": "http://127.0.0.1:8799"}, {"origin": "https://127.0.0.1:8799"}])
def test_a_form_of_our_own_page_is_accepted(locked, proof):
    path = f"/{locked.guard.door}{APPROVE}"
    answer = locked("POST", path, {"response": "true", "by": "ana"}, cookie=cookie_of(locked), **proof)
    assert answer.status_code == 303, answer.text


@pytest.mark.parametrize("what", ["approve", "reject", "cancel", "signal", "resume", "fork", "rollback"])
def test_a_read_only_dashboard_refuses_every_action(log, what):
    caller = Caller(log, read_only=True)
    answer = caller.post(f"/shop/e/asking-1/{what}", reason="no")
    assert answer.status_code == 403
    assert "waiting for approval" in Page(caller.get("/shop/e/asking-1")).words
    caller.close()


def test_a_body_is_read_to_its_end_before_it_is_refused(locked):
    """Otherwise a proxy that is still sending shows a broken pipe instead of the message."""
    pieces = [b"x" * 10_000] * 50
    read: list[bytes] = []

    async def body():
        for piece in pieces:
            read.append(piece)
            yield piece

    async def call():
        transport = httpx.ASGITransport(app=locked.guard)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.post(APPROVE, content=body(), headers={**FORM, **SAME})

    assert asyncio.run(call()).status_code == 401 and len(read) == len(pieces)


@pytest.mark.parametrize(
    ("hosts", "path", "status"),
    [((b"127.0.0.1", b"evil.example"), "/", 400), ((), "/", 400), ((b"127.0.0.1",), "shop", 401)],
)
def test_requests_that_no_client_library_sends_are_refused_too(locked, hosts, path, status):
    sent = []

    async def call():
        async def receive():
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message):
            sent.append(message)

        scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(b"host", host) for host in hosts],
        }
        await locked.guard(scope, receive, send)

    asyncio.run(call())
    assert sent[0]["status"] == status


def test_a_websocket_is_closed(locked):
    sent = []

    async def call():
        async def send(message):
            sent.append(message)

        await locked.guard({"type": "websocket"}, None, send)

    asyncio.run(call())
    assert sent == [{"type": "websocket.close", "code": 1008}]
