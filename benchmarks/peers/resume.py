"""A resume after 500 finished steps, until the next step begins, in a fresh process: ours at ``full`` beside DBOS and
LangGraph; and again in that process. Each library is imported, its steps are defined and its log is open before the
clock runs.
"""

from __future__ import annotations

from ..measure import Figure, Settings
from . import BEST, DEFAULT, Variants, beside_ours, figures_of

__all__ = ["run"]

NAME = "peers.resume"
FINISHED = 500
VARIANTS: Variants = {
    "DBOS as it comes": (DEFAULT, "dbos", "resume"),
    "DBOS in WAL mode": (BEST, "dbos", "resume", "wal"),
    "LangGraph": (DEFAULT, "langgraph", "resume", "chain"),
    "LangGraph, one node in a loop": (BEST, "langgraph", "resume", "loop"),
}


def run(settings: Settings) -> list[Figure]:
    finished = settings.size(FINISHED)
    found = beside_ours(settings, VARIANTS, ("resume",), [finished, 0, 0, 0])
    title = f"a resume after {finished:,} steps"
    return [
        *figures_of(NAME, f"{title}, fresh process", "resume", found, VARIANTS, 1),
        *figures_of(NAME, f"{title}, again", "again", found, VARIANTS, 1),
    ]
