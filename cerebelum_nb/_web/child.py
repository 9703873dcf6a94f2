"""A dashboard that another process started: it ends with that process, or is shared by a user's notebooks.

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
    """Serve until stdin is closed, or, on a socket, until told to end."""
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
        more=(lambda: named_in(given.logs_from)) if given.logs_from else None,
        ready=lambda address: print(address, flush=True),  # noqa: T201  # who started it reads it
    )


def named_in(file: Path) -> list[Path]:
    """Return the logs that a file names and that are there, and the one of the working directory."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [path for path in [default_path(), *map(Path, lines)] if path.is_file()]


def _end_with_stdin() -> None:
    """Who started this holds the other end; however that ends, it is closed then."""
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
