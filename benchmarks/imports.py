"""``import cerebelum_nb`` beside ``import pandas``, each in fresh interpreters, taking turns."""

from __future__ import annotations

from typing import Any

from .measure import Figure, Settings, compare, in_child

__all__ = ["run"]

NAME = "imports"
LOADED_ON_USE = {
    "IPython",
    "click",
    "cloudpickle",
    "ipywidgets",
    "nest_asyncio2",
    "numpy",
    "pandas",
    "pyarrow",
    "rich",
    "sqlite_utils",
}

_CHILD = """
import json, sys, time
began = time.perf_counter()
import {module}
taken = time.perf_counter() - began
print(json.dumps({{"taken": taken, "loaded": sorted({{name.split(".")[0] for name in sys.modules}})}}))
"""


def run(settings: Settings) -> list[Figure]:
    ours, theirs = _measure("cerebelum_nb"), _measure("pandas")  # also writes their bytecode
    slow = sorted(LOADED_ON_USE & set(ours["loaded"]))
    a, b = list[float](), list[float]()
    for _ in range(settings.repeat):
        a.append(_measure("cerebelum_nb")["taken"])
        b.append(_measure("pandas")["taken"])
    assert "pandas" in theirs["loaded"]
    return [
        compare(
            NAME,
            "import cerebelum_nb to import pandas",
            a,
            b,
            target=1 / 3,
            detail=lambda x, y: f"{x * 1e3:.0f} ms and {y * 1e3:.0f} ms",
        ),
        Figure(
            benchmark=NAME,
            name="modules it loads of those to be loaded on use",
            value=len(slow),
            unit="",
            target=0,
            target_is="exactly",
            detail=", ".join(slow) or "none of " + ", ".join(sorted(LOADED_ON_USE)),
        ),
    ]


def _measure(module: str) -> dict[str, Any]:
    return in_child("-c", _CHILD.format(module=module))
