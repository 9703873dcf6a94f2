"""Run the examples in the docstrings of a package or a module, in a process of their own: they may change it.

python run_examples.py cerebelum_nb._engine
"""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import sys


def modules(name: str) -> list[str]:
    found = importlib.import_module(name)
    inner = pkgutil.walk_packages(getattr(found, "__path__", []), f"{name}.")
    return [name, *(module.name for module in inner)]


if __name__ == "__main__":
    results = [
        doctest.testmod(importlib.import_module(module), optionflags=doctest.ELLIPSIS)
        for module in modules(sys.argv[1])
    ]
    sys.exit(any(result.failed for result in results))
