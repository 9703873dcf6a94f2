"""Run the ```python blocks of a Markdown page in order, in one namespace, as cells of a notebook would run.

    python run_page.py page.md

A block may `await`. One that must fail is marked by `<!-- raises: NameOfTheError -->` before it, which
a reader of the page never sees; one that shows a fragment and cannot run, by `<!-- not run: why -->`.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import linecache
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from cerebelum_nb._engine import hints

BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>raises|not run): (?P<argument>[^\n]+?) -->\n+)?^```python\n(?P<source>.*?)^```$"
    r"(?:\n+^```text\n(?P<text>.*?)^```$)?",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    line: int
    source: str
    raises: str | None = None
    message: str | None = None


def blocks(page: str) -> list[Block]:
    """The blocks to run, each with the number of the line before its first."""
    return [
        Block(
            page.count("\n", 0, match.start("source")),
            match["source"],
            match["argument"] if match["mark"] == "raises" else None,
            match["text"],
        )
        for match in BLOCK.finditer(page)
        if match["mark"] != "not run"
    ]


def without_ids(text: str) -> str:
    one = r"(?=[a-z0-9]*\d)[a-z][a-z0-9]{9}"  # in a sentence; where it must be one, it may be without a digit
    return re.sub(rf"(?:(?<=execution )|(?<=\(\"))[a-z][a-z0-9]{{9}}\b|\b{one}\b", "ID", text)


async def run(path: Path) -> None:
    for block in blocks(path.read_text(encoding="utf-8")):
        # A file name per block, whose lines are the page's: for tracebacks and inspect.getsource.
        name = f"{path}#{block.line}"
        padded = "\n" * block.line + block.source
        linecache.cache[name] = (len(padded), None, padded.splitlines(keepends=True), name)
        code = compile(padded, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        try:
            outcome = eval(code, sys.modules["__main__"].__dict__)
            if inspect.iscoroutine(outcome):
                await outcome
        except Exception as error:
            if type(error).__name__ != block.raises:
                raise
            shown = f"{type(error).__name__}: {error}"
            if block.message is not None and without_ids(shown) != without_ids(block.message.rstrip("\n")):
                raise AssertionError(f"{name}: the page shows another message than\n{shown}") from error
        else:
            if block.raises is not None:
                raise AssertionError(f"{name}: expected {block.raises}, and nothing was raised")


if __name__ == "__main__":
    hints.in_cells = lambda: True  # a page is read as a notebook: its messages are those that a cell shows
    asyncio.run(run(Path(sys.argv[1])))
