"""A dashboard that another process starts: it ends with that process, or is shared by a user's notebooks.

Run as ``python -m cerebelum_nb._web.child``; people use ``cerebelum dashboard``.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from pathlib import Path

from .._engine.hints import in_terminal
from .._store.connect import default_path
from .rendering import Settings
from .serving import serve

__all__ = ["main"]


def main() -> None:
    """Serve until stdin is closed, or, on a socket, until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("logs", nargs="*", type=Path)
    parser.add_argument("--uds")
    parser.add_argument(
        "--logs-from", type=Path, help="a file that names logs, a line each; it is read again and again"
    )
    parser.add_argument("--read-only", action="store_true")
    parser.add_argument("--allow-resume", action="store_true")
    given = parser.parse_args()
    if given.uds is None:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    in_terminal.set(True)
    serve(
        given.logs,
        port=0,
        uds=given.uds,
        settings=Settings(read_only=given.read_only, allow_resume=given.allow_resume),
        more=(lambda: read_logs(given.logs_from)) if given.logs_from else None,
        ready=lambda address: print(address, flush=True),  # noqa: T201  # the process that started it reads it
    )


def read_logs(file: Path) -> list[Path]:
    """Return the existing logs among those that a file names and that of the working directory."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [path for path in [default_path(), *map(Path, lines)] if path.is_file()]


def _end_with_stdin() -> None:
    """End with the process that started this one: it holds the other end of stdin, which closes however it ends."""
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
