"""What a ``%%step`` cell assigns and reads; no kernel."""

from __future__ import annotations

import ast
import asyncio

import pytest

from cerebelum_nb._dsl.fingerprint import explain
from cerebelum_nb._notebook import as_step
from cerebelum_nb._notebook.cells import read_cell


def cell(source):
    return read_cell("c", source, lambda tree: compile(tree, "<cell>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT))


@pytest.mark.parametrize(
    ("source", "assigns", "reads"),
    [
        ("x = 1", "x", ""),
        ("x = y", "x", "y"),
        ("x = 1\ny = x", "x y", ""),
        ("x = x + 1", "x", "x"),
        ("x += 1", "x", "x"),
        ("x: int = y", "x", "y"),
        ("a, (b, *c) = rows", "a b c", "rows"),
        ("_private = 1\nx = _private", "x", ""),
        ("df['a'] = 1", "df", "df"),
        ("thing.size = 2", "thing", "thing"),
        ("if (n := f()):\n    x = n", "n x", "f"),
        ("if c:\n    x = 1\nprint(x)", "x", "c print x"),
        ("if c:\n    x = 1\nelse:\n    x = 2\nprint(x)", "x", "c print"),
        ("for i in rows:\n    t = i\nprint(t)", "t", "rows print t"),
        ("with open(p) as f:\n    text = f.read()", "text", "open p"),
        ("try:\n    x = f()\nexcept E as e:\n    x = str(e)\ny = x", "x y", "f E str"),
        ("import math\nx = math.pi", "x", ""),
        ("def f(a, b=d):\n    return a + g\nx = f(1)", "x", "g d"),
        ("x = [i + k for i in rows]", "x", "k rows"),
        ("x = {i: j for j in rows for i in j if q}", "x", "rows q"),
        ("x = [f(i) for i in rows]\ni = 1\nf = 2", "x i f", "rows f"),
        ("def g():\n    return [i + m for m in i]\nx = [i for i in rows]\ny = g()", "x y", "i rows"),
        ("x = [[(lambda: i + k)() for i in row] for row in rows]", "x", "k rows"),
        ("x = sum(i + k for i in rows)", "x", "k rows sum"),
        ("x = lambda a: a + k", "x", "k"),
        ("class A(Base):\n    v = w\nx = A()", "x", "w Base"),
        ("x = await f()", "x", "f"),
        ("x == 1", "", "x"),
        ("", "", ""),
    ],
)
def test_what_a_cell_assigns_and_reads(source, assigns, reads):
    found = cell(source)
    assert found.assigns == tuple(assigns.split())
    assert set(found.reads) == set(reads.split())


def test_it_runs_with_await_and_gives_its_last_expression():
    namespace = {"asyncio": asyncio}
    assert asyncio.run(cell("await asyncio.sleep(0)\nx = 2\nx + 1").run(namespace)) == 3
    assert namespace["x"] == 2
    assert "__cerebelum_value__" not in namespace


def test_a_semicolon_shows_nothing():
    assert cell("x + 1").shows
    assert not cell("x + 1;").shows
    assert not cell("x = 1").shows


def test_a_change_of_what_it_reads_is_reported():
    made = cell("y = limit + f(rows)")
    before = made.parts({"limit": 1, "rows": [1, 2], "f": len})
    after = made.parts({"limit": 2, "rows": [1, 3], "f": len})
    assert explain(before, after) == ["variable `limit` was 1, is 2", "variable `rows` was [1, 2], is [1, 3]"]


def test_values_too_large_to_show_still_count():
    made = cell("y = sum(rows)")
    before, after = made.parts({"rows": [0] * 20_000}), made.parts({"rows": [0] * 19_999 + [1]})
    assert explain(before, after) == ["variable `rows` changed"]


def test_modules_are_not_a_result():
    assert cell("m = mod\nm.x = 1").result({"m": ast}) == {}


def test_only_a_step_line_is_rewritten():
    assert as_step(["x = 1\n"]) == ["x = 1\n"]
    assert as_step(["%%steps load\n"]) == ["%%steps load\n"]
    assert as_step([]) == []
    assert as_step(["%%step load\n", "x = 1\n"])[0].startswith("await __import__")


@pytest.mark.parametrize(
    ("source", "left"),
    [
        ("total = 0\nfor i in range(4):\n    total += i", {"i": 3}),
        ("for a, (b, _c) in [(1, (2, 3))]:\n    pass", {"a": 1, "b": 2}),
        ("match [1, 2, 3]:\n    case [x, *rest]:\n        pass", {"x": 1, "rest": [2, 3]}),
        ("import math\ndef f():\n    pass\nx = 1", {}),
        ("try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    pass", {}),
    ],
)
def test_variables_that_loops_and_patterns_leave_are_found(source, left):
    made, namespace = cell(source), {}
    asyncio.run(made.run(namespace))
    assert made.left_by_blocks(namespace) == left


class Box:
    def __init__(self, n):
        self.n = n


def test_an_object_that_a_cell_reads_counts_once_as_a_variable():
    made = cell("box.n = 2")
    parts = made.parts({"box": Box(1)})
    assert not [part for part in parts if part.kind == "constant" and part.name.startswith("box.")]
