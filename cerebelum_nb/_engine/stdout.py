"""What steps print: it reaches the cell as usual, and its last lines are kept for the log.

While an execution runs in this process, ``sys.stdout`` and ``sys.stderr`` also pass what is written to the scope of the
step that writes, found in the context variable. The stream objects stay the same, so code that already holds one (a
logging handler) is covered too. What reaches the cell is masked like the log. The text kept here is bounded, and is
masked when it is taken.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

__all__ = ["Printed", "listen"]

MOST_PENDING = 64_000
"""Characters kept between two events; of more, the last."""

MOST_PER_EVENT = 4_000

_lock = threading.Lock()
_heard: dict[int, _Ear] = {}


class Printed:
    """What one attempt printed that is not in the log yet."""

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

        A line overwritten with carriage returns counts as it looked in the end. Secrets are masked before anything is
        cut, and an unfinished line waits, so that no secret is split.
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
        """Return what has not been taken yet, as it looks now."""
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


def listen(tell: Callable[[str, Callable[[str], Any]], str | None]) -> Callable[[], None]:
    """Pass every text written to stdout and stderr, with the write method, to a callback; write what it returns.

    Returns:
        The function that ends it. Calls nest and are counted.
    """
    streams = [stream for stream in (sys.stdout, sys.stderr) if stream is not None]
    heard = [ear for stream in streams if (ear := _ear_on(stream, tell)) is not None]

    def end() -> None:
        while heard:
            heard.pop().leave()

    return end


def _ear_on(stream: Any, tell: Callable[[str, Callable[[str], Any]], str | None]) -> _Ear | None:
    with _lock:
        ear = _heard.get(id(stream))
        if ear is None:
            try:
                ear = _Ear(stream, tell)
            except AttributeError:  # a stream whose write cannot be replaced: it is not captured
                return None
            _heard[id(stream)] = ear
        ear.listeners += 1
        return ear


class _Ear:
    """Listens to one stream while there are listeners."""

    def __init__(self, stream: Any, tell: Callable[[str, Callable[[str], Any]], str | None]) -> None:
        write = stream.write
        self.stream, self.listeners = stream, 0
        self._before = vars(stream).get("write") if hasattr(stream, "__dict__") else None

        def heard(text: Any) -> Any:
            if type(text) is not str:
                return write(text)
            shown = tell(text, write)
            written = write(text if shown is None else shown)
            return written if shown is None or shown == text else len(text)  # the caller counts its own characters

        self._write = heard
        stream.write = heard

    def leave(self) -> None:
        """End one listener; the last one leaves the stream as it was."""
        with _lock:
            self.listeners -= 1
            if self.listeners:
                return
            _heard.pop(id(self.stream), None)
            if vars(self.stream).get("write") is not self._write:
                return  # somebody wrapped our write and calls it: there is nobody left to tell
            if self._before is None:
                del self.stream.write
            else:
                self.stream.write = self._before
