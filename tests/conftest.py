"""What every test may rely on."""

from __future__ import annotations

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that runs the suite in the background leaves Ctrl-C ignored, also in the processes which tests start and
    # press it in.
    signal.signal(signal.SIGINT, signal.default_int_handler)
