"""Whether this system starts threads: Python in a browser (Pyodide, JupyterLite) does not.

Asked by everything that would start one. Without threads, plain steps run inline on the event loop and the heartbeat
beats from it; what would have to block beside a running loop says so.
"""

from __future__ import annotations

import logging
import threading

from ..errors import CerebelumError

__all__ = ["can_start_threads", "must_block_beside_loop"]

log = logging.getLogger("cerebelum_nb")

_known: dict[str, bool] = {}


def can_start_threads() -> bool:
    """Whether threads start here.

    Found out by starting one when the first is wanted. A yes stands: where threads have started, one that the system
    refuses later (a limit is reached) is the failure of whatever wanted it, and blocking the loop instead would hide
    that. A no is asked again each time, as that limit may have been reached already at the first look.
    """
    if not _known.get("starts", False):
        try:
            probe = threading.Thread(target=int, name="cerebelum-probe", daemon=True)
            probe.start()
            probe.join()
        except RuntimeError:
            if not _known:
                log.warning(
                    "no thread can start here: plain steps run on the event loop, where nothing else runs meanwhile. "
                    "Make steps that wait async def"
                )
            _known["starts"] = False
        else:
            _known["starts"] = True
    return _known["starts"]


def must_block_beside_loop(what: str, instead: str) -> None:
    """Refuse to block beside a running event loop where no thread can start to do it.

    Raises:
        CerebelumError: there are no threads here.
    """
    if not can_start_threads():
        raise CerebelumError(f"{what} cannot wait here: an event loop is running, and no thread can start. {instead}")
