"""``dashboard()``: the dashboard of a notebook's log, in one call. No web framework is loaded in the kernel."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .._store.connect import resolve_store
from .._store.trust import state_folder
from .._text.html import Html
from ..errors import CerebelumError

__all__ = ["Dashboard", "dashboard", "setup"]

PROXIED = "cerebelum"
"""The name under which jupyter-server-proxy serves the dashboard."""


class Dashboard:
    """A dashboard that can be opened; a notebook shows its link.

    Attributes:
        url: where it is. Behind Jupyter's login this is a path of the server that shows the notebook; otherwise it
            holds a token.

    Example:
        >>> Dashboard("/user/ana/cerebelum/")
        the dashboard is at /user/ana/cerebelum/
    """

    def __init__(self, url: str, process: subprocess.Popen[str] | None = None) -> None:
        self.url, self._process = url, process

    def stop(self) -> None:
        """End it; one behind Jupyter's login ends with Jupyter."""
        if self._process is not None and self._process.poll() is None:
            assert self._process.stdin is not None and self._process.stdout is not None
            self._process.stdin.close()
            self._process.wait(10)
            self._process.stdout.close()

    def __repr__(self) -> str:
        return f"the dashboard is at {self.url}"

    def _repr_html_(self) -> str:
        return Html('<a href="{}" target="_blank" rel="noopener">Open the dashboard</a>').format(self.url)


_started: dict[tuple[str, ...], Dashboard] = {}
"""The dashboards of this process by their command: a cell that runs again starts no second one."""


def dashboard(*logs: str | Path, read_only: bool = False, allow_resume: bool = False) -> Dashboard:
    """Start the dashboard of this notebook's log, or of others, and return its link.

    It runs in a separate process, which ends with the kernel. Where jupyter-server-proxy is installed, the dashboard
    is a page of Jupyter, behind Jupyter's login, and all notebooks of a user share one.

    Args:
        logs: paths of logs; by default the session's log.
        read_only: only show; ignored where the dashboard is shared.
        allow_resume: offer to start, resume and fork, in separate processes; ignored where the dashboard is shared.

    Returns:
        A :class:`Dashboard`, which a notebook shows as a link.

    Raises:
        CerebelumError: the log is in memory, or the packages of the extra ``web`` are not installed.

    Example:
        >>> from cerebelum_nb import connect, dashboard
        >>> log = connect("shop.db")
        >>> shown = dashboard(read_only=True)
        >>> shown.url.startswith("http://127.0.0.1:")
        True
        >>> shown.stop()
    """
    if any(find_spec(name) is None for name in ("starlette", "uvicorn", "jinja2")):
        raise CerebelumError("the dashboard needs more packages: pip install 'cerebelum_nb[web]'")
    paths = [str(Path(log).absolute()) for log in logs] or [_of_session()]
    base = _jupyter_base() if find_spec("jupyter_server_proxy") else None
    if base is not None and (file := _shared_file()) is not None:
        _remember(file, paths)
        return Dashboard(f"{base}{PROXIED}/")
    options = [name for name, is_on in (("--read-only", read_only), ("--allow-resume", allow_resume)) if is_on]
    command = (sys.executable, "-m", "cerebelum_nb._web.child", *options, "--", *paths)
    running = _started.get(command)
    if running is not None and running._process is not None and running._process.poll() is None:
        return running
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    if not url:
        process.wait()
        raise CerebelumError("the dashboard did not start: run `cerebelum dashboard` in a terminal to see why")
    made = _started[command] = Dashboard(url, process)
    atexit.register(made.stop)
    return made


def setup() -> dict[str, Any]:
    """Tell jupyter-server-proxy how to serve the dashboard: on a socket in a folder of this user."""
    file = _shared_file()
    command = [sys.executable, "-m", "cerebelum_nb._web.child", "--uds={unix_socket}"]
    return {
        "command": [*command, *([f"--logs-from={file}"] if file is not None else [])],
        "unix_socket": True,
        "timeout": 60,
        "launcher_entry": {
            "title": "Executions",
            "icon_path": str(Path(__file__).parent / "static" / "mark.svg"),
        },
    }


def _of_session() -> str:
    store = resolve_store(None)
    if store.location == ":memory:":
        raise CerebelumError(
            'this log is in memory, and no other process can read it: use connect("history.db") for one in a file'
        )
    return store.location


def _shared_file() -> Path | None:
    """Return the file in which a user's notebooks list their logs for the dashboard that they share."""
    folder = state_folder()
    return None if folder is None else folder.parent / "dashboard-logs"


def _remember(file: Path, paths: list[str]) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    known = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    new = [path for path in paths if path not in known]
    if new:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a", encoding="utf-8") as out:
            out.write("".join(f"{path}\n" for path in new))


def _jupyter_base() -> str | None:
    """Return the base path of the Jupyter server that started this kernel; None if none did."""
    if hub := os.environ.get("JUPYTERHUB_SERVICE_PREFIX"):
        return hub
    parent = os.environ.get("JPY_PARENT_PID", "")
    with suppress(ImportError, OSError, ValueError):
        from jupyter_server.serverapp import list_running_servers

        for server in list_running_servers():
            if str(server.get("pid")) == parent:
                return str(server["base_url"])
    return None
