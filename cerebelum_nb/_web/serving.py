"""The server: its token, its port or socket, and the printed address."""

from __future__ import annotations

import os
import re
import secrets
import signal
import socket
import stat
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import uvicorn

from ..errors import CerebelumError
from .app import application
from .guard import Guard
from .logs import Logs
from .rendering import Settings

__all__ = ["serve", "token_of"]

_TOKEN = re.compile(r"[A-Za-z0-9_-]{16,500}")
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def serve(
    paths: Iterable[str | Path],
    *,
    port: int = 8799,
    uds: str | None = None,
    token_file: Path | None = None,
    hosts: Collection[str] = (),
    settings: Settings,
    ready: Callable[[str], None],
    more: Callable[[], Iterable[Path]] | None = None,
) -> None:
    """Serve the dashboard of some logs until it is stopped by a signal.

    Args:
        paths: the logs.
        port: the port on 127.0.0.1; 0 takes a free one.
        uds: a Unix socket to listen on instead; it needs no token, whoever may open it may use the dashboard.
        token_file: a file that keeps the token, so that it is the same at the next start; by default it is new.
        hosts: other names under which the server may be addressed, behind a proxy.
        settings: the options of the dashboard.
        ready: called with the address when it can be opened.
        more: returns the paths of further logs, whenever an unknown one is asked for.

    Raises:
        StoreError: a log cannot be read.
        CerebelumError: the port, the socket or the token's file cannot be used.
    """
    logs = Logs.of(paths, more)
    try:
        if uds is not None:
            token, names = None, None
            listener, address = _on_socket(Path(uds)), f"the socket {uds}"
        else:
            token, names = token_of(token_file), {*LOOPBACK, *(host.lower() for host in hosts)}
            listener = _on_port(port)
            address = f"http://127.0.0.1:{listener.getsockname()[1]}/?token={token}"
        with listener:
            guard = Guard(application(logs, settings), token=token, hosts=names, read_only=settings.read_only)
            server = _Server(
                uvicorn.Config(
                    guard,
                    log_level="warning",
                    access_log=False,  # an address may contain the token
                    server_header=False,
                    timeout_graceful_shutdown=2,  # a feed never ends by itself
                    lifespan="on",
                    http="h11",
                    ws="none",
                    h11_max_incomplete_event_size=64 * 1024,
                ),
                lambda: ready(address),
            )
            with _exit_on_sigterm():
                server.run(sockets=[listener])
    finally:
        logs.close()
        if uds is not None:
            Path(uds).unlink(missing_ok=True)


@contextmanager
def _exit_on_sigterm() -> Iterator[None]:
    """End by an exception on SIGTERM: uvicorn raises the signal again, which would leave files behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: object) -> None:
        raise SystemExit(0)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.should_exit:
            self._ready()


def token_of(file: Path | None) -> str:
    """Return a new token, or the token in a file, which is created if it does not exist.

    Raises:
        CerebelumError: the file cannot be used: others may read it, or it holds something else.
    """
    new = secrets.token_urlsafe(24)
    if file is None:
        return new
    try:
        with suppress(FileExistsError):
            place = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, stat.S_IRUSR | stat.S_IWUSR)
            with os.fdopen(place, "w", encoding="ascii") as out:
                out.write(f"{new}\n")
        with file.open(encoding="utf-8") as kept:
            if os.fstat(kept.fileno()).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise CerebelumError(
                    f"other users can read {file}, which holds the token: `chmod 600` it, or name another"
                )
            token = kept.read(1_000).strip()
    except (OSError, UnicodeError) as error:
        raise CerebelumError(f"the token's file {file} cannot be used ({error})") from error
    if not _TOKEN.fullmatch(token):
        raise CerebelumError(
            f"{file} holds no token of at least 16 letters or digits. Name a file that does not exist: it is created"
        )
    return token


def _on_port(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        listener.close()
        raise CerebelumError(
            f"port {port} of 127.0.0.1 cannot be used ({error.strerror}). Choose another with --port, or --port 0 for "
            "any that is free"
        ) from error
    return listener


def _on_socket(path: Path) -> socket.socket:
    """Bind a socket that only this user can open; uvicorn's own could be opened by all users."""
    path = path.absolute()
    folder = path.parent
    folder.mkdir(mode=stat.S_IRWXU, parents=True, exist_ok=True)
    found = folder.stat()
    if found.st_uid != os.getuid() or found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise CerebelumError(
            f"other users can enter the folder {folder} of the socket: create one for it, `chmod 700` it, and try again"
        )
    listener = socket.socket(socket.AF_UNIX)
    try:
        if path.is_socket():
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(str(path)) == 0:
                    raise CerebelumError(f"another dashboard listens on {path}: use that, or another path")
            path.unlink()
        mask = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(mask)
    except OSError as error:
        listener.close()
        raise CerebelumError(f"the socket {path} cannot be created ({error.strerror or error})") from error
    except CerebelumError:
        listener.close()
        raise
    return listener
