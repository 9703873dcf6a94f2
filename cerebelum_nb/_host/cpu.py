"""The CPU time of this thread, also where there are no threads: in a browser it is that of the process."""

from __future__ import annotations

import time

__all__ = ["thread_time"]

thread_time = getattr(time, "thread_time", time.process_time)
