"""Capture what steps print: it reaches the cell as usual, and its last lines are kept for the log.

While an execution runs in this process, the ``write`` of ``sys.stdout`` and ``sys.stderr`` also passes the text to the
scope of the step that writes, found through a context variable. The stream objects stay the same, so code that already
refers to one (a logging handler) is covered too. Secrets are masked in the cell as in the log. The text kept here is
bounded, and is masked when it is taken.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

__all__ = ["Printed", "capture_output"]

MOST_PENDING = 64_000
"""The most characters kept between two events, the last ones."""

MOST_PER_EVENT = 4_000

_lock = threading.Lock()
_taps: dict[int, _Tap] = {}


class Printed:
    """The text that one attempt printed and that is not in the log yet."""

    __slots__ = ("_lock", "_pieces", "_size", "asked", "dropped", "taken")

    def __init__(self) -> None:
        self._pieces: deque[str] = deque()
        self._size = 0
        self._lock = threading.Lock()
        self.asked = False
        self.dropped = False
        self.taken = 0

    def add(self, text: str) -> None:
        """Keep a text that was written."""
        with self._lock:
            self._pieces.append(text)
            self._size += len(text)
            while self._size > MOST_PENDING and len(self._pieces) > 1:
                self._size -= len(self._pieces.popleft())
                self.dropped = True

    def take(self, mask: Callable[[str], str], *, all_of_it: bool = False) -> tuple[str, bool]:
        """Return whole lines for an event, and whether lines before them were left out.

        A line overwritten with carriage returns is taken as it last looked. Secrets are masked before anything is cut,
        and an unfinished line is kept for the next event, so that no secret is split.
        """
        with self._lock:
            text = "".join(self._pieces)
            end = len(text) if all_of_it else max(text.rfind("\n"), text.rfind("\r")) + 1
            rest = text[end:]
            self._pieces = deque([rest] if rest else [])
            self._size = len(rest)
            dropped, self.dropped = self.dropped, False
        shown = as_seen(mask(text[:end]))
        if len(shown) > MOST_PER_EVENT:
            cut = shown[-MOST_PER_EVENT:]
            shown, dropped = cut[cut.find("\n") + 1 :] if "\n" in cut[:-1] else cut, True
        self.taken += len(shown)
        return shown, dropped

    def peek(self, mask: Callable[[str], str]) -> str:
        """Return the text that has not been taken yet, as it looks now."""
        with self._lock:
            text = "".join(self._pieces)
        return as_seen(mask(text)) if text else ""


def as_seen(text: str) -> str:
    r"""Apply carriage returns, as a terminal does.

    Example:
        >>> as_seen("10%\r50%\r90%\ndone\n")
        '90%\ndone\n'
    """
    if "\r" not in text:
        return text
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines)


def capture_output(tell: Callable[[str, Callable[[str], Any]], str | None]) -> Callable[[], None]:
    """Pass every text written to stdout and stderr, with the write method, to a callback; write the text it returns.

    Returns:
        The function that ends this. Calls may nest.
    """
    streams = [stream for stream in (sys.stdout, sys.stderr) if stream is not None]
    return partial(_end, [tap for stream in streams if (tap := _tap_on(stream, tell)) is not None])


def _end(taps: list[_Tap]) -> None:
    while taps:
        taps.pop().leave()


def _tap_on(stream: Any, tell: Callable[[str, Callable[[str], Any]], str | None]) -> _Tap | None:
    with _lock:
        tap = _taps.get(id(stream))
        if tap is None:
            try:
                tap = _Tap(stream, tell)
            except AttributeError:  # the stream's write cannot be replaced: it is not captured
                return None
            _taps[id(stream)] = tap
        tap.listeners += 1
        return tap


class _Tap:
    """Replaces the ``write`` of one stream while there are listeners."""

    def __init__(self, stream: Any, tell: Callable[[str, Callable[[str], Any]], str | None]) -> None:
        write = stream.write
        self.stream, self.listeners = stream, 0
        self._before = vars(stream).get("write") if hasattr(stream, "__dict__") else None

        def tapped(text: Any) -> Any:
            if type(text) is not str:
                return write(text)
            shown = tell(text, write)
            written = write(text if shown is None else shown)
            return written if shown is None or shown == text else len(text)  # the caller counts its own characters

        self._write = tapped
        stream.write = tapped

    def leave(self) -> None:
        """Remove one listener; the last one restores the stream."""
        with _lock:
            self.listeners -= 1
            if self.listeners:
                return
            _taps.pop(id(self.stream), None)
            if vars(self.stream).get("write") is not self._write:
                return  # other code has wrapped this write and still calls it: it stays, and tells no scope
            if self._before is None:
                del self.stream.write
            else:
                self.stream.write = self._before
