"""How long a lease must still be respected, from the heartbeats of its holder that were seen here.

Where holder.py can prove that a holder is alive or gone, that decides at once. Any other holder (on another machine, in
another container) is only seen through its heartbeats, each of which changes its row. Its lease has expired once this
process has watched the row for the length of the lease, by its own monotonic clock, without seeing a change. The two
times in the row are from the holder's clock, which may be wrong by hours, so they are never compared with a clock here;
only their difference, the length of the lease, is used.

So a process that sees a holder for the first time must watch it for that whole length, even if its last heartbeat was,
by the clock, a year ago. That is the price of never taking an execution from a process whose clock is wrong.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from .holder import Holder, Life, life

__all__ = ["HeartbeatMonitor"]


class HeartbeatMonitor:
    """What one store has seen of its holders; ``monotonic`` returns seconds."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.monotonic = monotonic
        self._seen: dict[int, tuple[object, float]] = {}

    def forget(self, key: int) -> None:
        """Forget a holder that is no longer in the log."""
        self._seen.pop(key, None)

    def left(self, holder: Holder, token: str, pulse: object, looked_at: float) -> float:
        """Return for how many seconds the leases of ``holder`` must be respected.

        Args:
            holder: the holder, as just read.
            token: of its registration.
            pulse: what changes with each of its heartbeats.
            looked_at: the monotonic time before it was read. With the time after, a reader suspended in between would
                count time during which it saw nothing.

        Returns:
            Infinity while its process is known to be alive, 0 once it is gone or its lease has expired.
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
