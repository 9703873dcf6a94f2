"""The fan-out of a list of no-op items: our ``foreach`` at ``full`` beside a plain loop of ``context.run``, LangGraph's
``Send`` and Prefect's ``map``, with a thousand items and with ten thousand.
"""

from __future__ import annotations

from ..measure import Figure, Settings
from . import DEFAULT, Variants, beside_ours, bytes_of, figures_of

__all__ = ["run"]

NAME = "peers.items"
COUNTS = (1_000, 10_000)
VARIANTS: Variants = {
    "a loop of context.run": (None, "ours", "items", "loop"),
    "LangGraph's Send": (DEFAULT, "langgraph", "items"),
    "Prefect's map": (DEFAULT, "prefect", "items"),
}


def run(settings: Settings) -> list[Figure]:
    figures: list[Figure] = []
    for count in map(settings.size, COUNTS):
        found = beside_ours(settings, VARIANTS, ("items",), [0, 0, 0, count])
        figures += figures_of(NAME, f"an item of {count:,}", "items", found, VARIANTS, count)
        figures += bytes_of(NAME, f"an item of {count:,}, peak memory", "items memory", found, VARIANTS, count)
    return figures
