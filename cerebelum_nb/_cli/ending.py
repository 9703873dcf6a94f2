"""Commands that run until they are stopped."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType

__all__ = ["wait_for_stop"]


def wait_for_stop(ended: threading.Event) -> None:
    """Wait until Ctrl-C, SIGTERM, or until ``ended`` is set; then the command ends normally."""

    def end(number: int, frame: FrameType | None) -> None:
        ended.set()

    sys.stdout.flush()  # a pipe, too, gets what the command has printed
    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        while not ended.wait(3600):
            pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
