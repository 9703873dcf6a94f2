"""``dashboard()``: a process that ends with the one that started it; and behind a real Jupyter, its login."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.parse
import urllib.request
from http.cookiejar import CookieJar
from pathlib import Path

import pytest

from cerebelum_nb import CerebelumError, connect, dashboard
from cerebelum_nb._web import notebook

from ..waiting import wait_for

pytestmark = pytest.mark.process
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def no_jupyter(monkeypatch):
    """Hide the Jupyter in which the suite may be running."""
    for name in ("JUPYTERHUB_SERVICE_PREFIX", "JPY_PARENT_PID"):
        monkeypatch.delenv(name, raising=False)


def opened(url: str) -> str:
    """Open an address as a browser does, with cookies."""
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
    with browser.open(url, timeout=30) as answer:
        return answer.read().decode()


def is_up(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def test_the_link_leads_to_the_list_and_starts_once(log):
    shown = dashboard(log, read_only=True)
    try:
        assert shown.url in shown._repr_html_() and "token=" in shown.url
        page = opened(shown.url)
        assert "x-done-1" in page and "read-only" in page
        assert dashboard(log, read_only=True) is shown
    finally:
        shown.stop()
    with pytest.raises(OSError):
        opened(shown.url)


def test_a_log_in_memory_has_no_dashboard(no_jupyter):
    connect(":memory:")
    with pytest.raises(CerebelumError, match="in memory"):
        dashboard()


def test_it_ends_with_the_kernel_however_that_ends(log):
    code = f"from cerebelum_nb import dashboard; print(dashboard({str(log)!r}).url, flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], text=True, cwd=ROOT, **pipes) as kernel:
        assert kernel.stdout is not None
        url = kernel.stdout.readline().strip()
        assert "x-done-1" in opened(url)
        kernel.kill()
    port = urllib.parse.urlsplit(url).port
    wait_for(lambda: not is_up(port), "it ends when its kernel has ended")


def test_in_jupyter_it_is_a_page_of_jupyter(log, monkeypatch, tmp_path):
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", "/user/ana/")
    monkeypatch.setattr(notebook, "_shared_file", lambda: tmp_path / "private" / "logs")
    for _ in range(2):
        assert dashboard(log).url == "/user/ana/cerebelum/"
    kept = tmp_path / "private" / "logs"
    assert kept.read_text().splitlines() == [str(log)]
    assert kept.stat().st_mode & 0o777 == 0o600 and kept.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.soak
def test_behind_a_real_jupyter_its_login_controls_access(log, tmp_path):
    """It uses jupyter-server-proxy, a Unix socket, a base path, and a stream through the proxy."""
    state = tmp_path / "state"
    named = state / "cerebelum_nb" / "dashboard-logs"
    named.parent.mkdir(parents=True, mode=0o700)
    named.write_text(f"{log}\n")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folders = {f"JUPYTER_{name}_DIR": str(tmp_path / name) for name in ("CONFIG", "RUNTIME", "DATA")}
    command = [sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", f"--port={port}"]
    options = ["--IdentityProvider.token=hush", "--ServerApp.base_url=/user/ana/", "--ServerApp.port_retries=0"]
    environment = {**os.environ, **folders, "XDG_STATE_HOME": str(state), "PYTHONPATH": str(ROOT)}
    server = subprocess.Popen(
        [*command, *options], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert server.stderr is not None
        base = f"http://127.0.0.1:{port}/user/ana/"
        threading.Thread(target=server.stderr.read, daemon=True).start()
        wait_for(lambda: is_up(port), "Jupyter listens")
        with urllib.request.urlopen(f"{base}cerebelum/shop/", timeout=60) as answer:
            assert "/login" in answer.url and b"asking-1" not in answer.read()

        def ask(path: str, data: bytes | None = None, **more: str):
            headers = {"Authorization": "token hush", **{k.replace("_", "-"): v for k, v in more.items()}}
            return urllib.request.urlopen(urllib.request.Request(f"{base}cerebelum/{path}", data, headers), timeout=60)

        with ask("") as answer:
            assert answer.url == f"{base}cerebelum/shop/" and b"x-asking-1" in answer.read()
        with ask("shop/e/asking-1/feed", Accept="text/event-stream") as stream:
            assert stream.readline().startswith(b"retry") or stream.readline()
            with ask("shop/e/asking-1/approve", b"by=ana", sec_fetch_site="same-origin") as answer:
                assert answer.url == f"{base}cerebelum/shop/e/asking-1"
            wait_for(lambda: b"via dashboard" in stream.readline(), "the decision comes through", every=0)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)
        server.stderr.close()
