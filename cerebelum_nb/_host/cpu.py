"""The CPU time of this thread. In a browser, which has no threads, it is the CPU time of the process."""

from __future__ import annotations

import time

__all__ = ["thread_time"]

thread_time = getattr(time, "thread_time", time.process_time)
