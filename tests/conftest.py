"""What every test may rely on."""

from __future__ import annotations

import atexit
import os
import signal
import tempfile

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that runs the suite in the background leaves Ctrl-C ignored, also in the processes which tests start and
    # press it in.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _state_of_its_own() -> None:
    """Keep the ids of the tests' logs out of the user's state folder, here and in every process that tests start."""
    folder = tempfile.TemporaryDirectory(prefix="cerebelum-state-")
    atexit.register(folder.cleanup)
    os.environ["XDG_STATE_HOME"] = folder.name


_state_of_its_own()
