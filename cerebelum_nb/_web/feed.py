"""The changes of a log, sent to all viewers. One poll of one number, and one drawing, serve them all."""

from __future__ import annotations

import asyncio
import json
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.concurrency import run_in_threadpool

from .._store.sqlite import SqliteStore
from ..errors import StoreError
from .parts import Document, Hashes

__all__ = ["Draw", "Feed"]

POLL_SECONDS = 0.05
LOOK_AGAIN_SECONDS = 5.0
"""How often to draw without a change of the log: a process may have died, or a wait ended."""
STILL_HERE_SECONDS = 15.0
"""How often to send a comment, so that proxies do not close the feed."""
MOST_VIEWERS = 100
_VIEWERS_AT_FULL_PACE = 50
"""With more viewers, changes are sent less often."""
_MOST_DRAWN, _MOST_REMEMBERED, _MOST_ENCODED = 256, 2_000, 32

Draw = Callable[[], Document]


class Feed:
    """The changes of one log.

    Args:
        path: the log.
        count: the number of viewers, in a list that the feeds of all logs share.
    """

    def __init__(self, path: str, count: list[int]) -> None:
        self._path, self._count = path, count
        self._pulse: SqliteStore | None = None
        self._version = -1
        self._stamp = 0
        self._waiting: set[asyncio.Event] = set()
        self._poll: asyncio.Task[None] | None = None
        self._drawn: OrderedDict[str, tuple[int, Document]] = OrderedDict()
        self._drawing: dict[str, asyncio.Future[tuple[int, Document]]] = {}
        self._known: OrderedDict[tuple[str, str], Hashes] = OrderedDict()
        self._encoded: dict[tuple[str, str, str], str] = {}

    @property
    def is_full(self) -> bool:
        """Whether this server has as many viewers as it allows."""
        return self._count[0] >= MOST_VIEWERS

    def close(self) -> None:
        """Stop polling."""
        if self._poll is not None:
            self._poll.cancel()
        if self._pulse is not None:
            self._pulse.close()

    def refresh(self) -> None:
        """Draw again for all viewers, now."""
        self._stamp += 1
        for event in self._waiting:
            event.set()

    async def document(self, key: str, draw: Draw) -> Document:
        """Return the current document; it is drawn once until something changes."""
        if not self._waiting:
            self._look()
        while True:
            stamp = self._stamp
            found = self._drawn.get(key)
            if found is not None and found[0] == stamp:
                return found[1]
            if key not in self._drawing:
                self._drawing[key] = asyncio.ensure_future(self._draw(key, draw, stamp))
            drawing = self._drawing[key]
            began, document = await asyncio.shield(drawing)  # others wait for it too: one who leaves must not cancel it
            if began == stamp:
                return document

    async def _draw(self, key: str, draw: Draw, stamp: int) -> tuple[int, Document]:
        """Draw a document and remember it, in one task, so that no waiter finds it finished but not remembered."""
        try:
            document = await run_in_threadpool(draw)
            self._drawn[key] = stamp, document
            self._drawn.move_to_end(key)
            if len(self._drawn) > _MOST_DRAWN:
                self._drawn.popitem(last=False)
            self._known[key, document.digest] = document.hashes
            if len(self._known) > _MOST_REMEMBERED:
                self._known.popitem(last=False)
            return stamp, document
        finally:
            del self._drawing[key]

    async def once(self, key: str, draw: Draw, seen: str) -> str:
        """Return what changed since the document ``seen`` as JSON; "" if nothing did."""
        document = await self.document(key, draw)
        if document.digest == seen:
            return ""
        return self._change_json(key, document, seen, self._known.get((key, seen), {}))

    def _change_json(self, key: str, document: Document, seen: str, hashes: Hashes) -> str:
        """Return what changed since ``seen`` as JSON, made once for all viewers who saw the same."""
        name = key, seen, document.digest
        if name not in self._encoded:
            if len(self._encoded) >= _MOST_ENCODED:
                self._encoded.clear()
            self._encoded[name] = _encode_change(document, hashes)
        return self._encoded[name]

    async def follow(self, key: str, draw: Draw, seen: str, every: float) -> AsyncIterator[str]:
        """Yield changes as server-sent events, at most one in ``every`` seconds, fewer with many viewers."""
        self._count[0] += 1
        changed = asyncio.Event()
        self._waiting.add(changed)
        if self._poll is None:
            self._look()
            self._poll = asyncio.ensure_future(self._watch())
        try:
            yield "retry: 1000\n\n"
            hashes = self._known.get((key, seen), {})
            while True:
                changed.clear()
                document = await self.document(key, draw)
                if document.digest != seen:
                    yield f"id: {document.digest}\ndata: {self._change_json(key, document, seen, hashes)}\n\n"
                    seen, hashes = document.digest, document.hashes
                    pace = every * max(1.0, self._count[0] / _VIEWERS_AT_FULL_PACE)
                    await asyncio.sleep(pace - time.monotonic() % pace)  # all viewers at once, for one drawing
                if document.over:
                    yield "event: over\ndata:\n\n"
                    return
                try:
                    await asyncio.wait_for(changed.wait(), STILL_HERE_SECONDS)
                except TimeoutError:
                    yield ": still here\n\n"
        finally:
            self._waiting.discard(changed)
            self._count[0] -= 1
            if not self._waiting and self._poll is not None:
                self._poll.cancel()
                self._poll = None

    async def _watch(self) -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(POLL_SECONDS)
            now = time.monotonic()
            if self._look() or now - last >= LOOK_AGAIN_SECONDS:
                last = now
                self.refresh()

    def _look(self) -> bool:
        """Look for commits; return whether there are any since the last look. A log that disappears is one change."""
        try:
            if self._pulse is None:
                self._pulse = SqliteStore(self._path, read_only=True, trusted=False)
            version = self._pulse.data_version()
        except StoreError:
            if self._pulse is not None:
                self._pulse.close()
            self._pulse, version = None, -2
        if version == self._version:
            return False
        self._version = version
        self._stamp += 1
        return True


def _encode_change(document: Document, hashes: Hashes) -> str:
    change: dict[str, Any] = {"now": time.time_ns() // 1000, "digest": document.digest, **document.since(hashes)}
    return json.dumps(change, ensure_ascii=True)
