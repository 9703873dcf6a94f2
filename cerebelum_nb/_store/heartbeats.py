"""How long a lease is still to be respected, by what was seen from here of its holder.

Where holder.py can prove that a holder lives or is gone, that decides, at once. Of any other holder (another
machine, another container) only its heartbeat shows: each beat changes its row. Its lease has run out when this
process has watched the row for the lease's length, on its own monotonic clock, and it did not change. The two times in
the row are of the holder's clock, which may be wrong by hours: they are never compared with a clock here. Their
difference is the lease's length, which its holder may be taken at its word for.

So a process that sees a holder for the first time has to watch it for the whole length, even if its last beat was,
by the clock, last year: that is the price of not robbing a process whose clock is wrong.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from .holder import Holder, Life, life

__all__ = ["HeartbeatMonitor"]


class HeartbeatMonitor:
    """What one store has seen of the holders in it; ``monotonic`` returns seconds."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.monotonic = monotonic
        self._seen: dict[int, tuple[object, float]] = {}

    def forget(self, key: int) -> None:
        """Forget a holder that is no longer in the log."""
        self._seen.pop(key, None)

    def left(self, holder: Holder, token: str, pulse: object, looked_at: float) -> float:
        """Return for how many seconds the leases of ``holder`` are to be respected.

        Args:
            holder: the holder, read just now.
            token: of its registration.
            pulse: what changes with each of its heartbeats.
            looked_at: the monotonic time before it was read: were it the time after, a reader that was suspended in
                between would count a time in which it saw nothing.

        Returns:
            Infinity while its process is known to live, 0 when it is gone or its lease has run out.
        """
        match life(holder, token):
            case Life.ALIVE:
                return math.inf
            case Life.GONE:
                self._seen.pop(holder.key, None)
                return 0.0
        length = max(0, holder.expires_at - holder.heartbeat_at) / 1e6
        last, since = self._seen.get(holder.key, (None, 0.0))
        if last != pulse:
            self._seen[holder.key] = pulse, self.monotonic()
            return length
        return max(0.0, since + length - looked_at)
