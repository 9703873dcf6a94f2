"""Tracebacks, inspect, breakpoints and line tracing see the user's function, whether a twin runs or not."""

from __future__ import annotations

import asyncio
import bdb
import inspect
import linecache
import re
import sys
import traceback

import pytest

from cerebelum_nb import WorkflowError, sleep, step, workflow
from cerebelum_nb.testing import MemoryStore

SOURCE = """\
async def one(inputs):
    "A text."
    seen = []
    for number in range(2):
        if number:
            seen.append(number)
        try:
            await sleep(0.001)
        finally:
            seen.append("finally")
    with quiet():
        await sleep(0.001)
    return fails(seen)

def fails(seen):
    return 1 / inputs_of(seen)

def inputs_of(seen):
    return 0
"""
FILE = "<a cell of tools>"


class Quiet:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False


@pytest.fixture(params=["waits", "lines", None])
def ship(request):
    """The same workflow, with checkpoints and without."""
    linecache.cache[FILE] = (len(SOURCE), None, SOURCE.splitlines(True), FILE)
    space = {"sleep": sleep, "quiet": Quiet, "__name__": "__main__"}
    exec(compile(SOURCE, FILE, "exec"), space)
    one = step(checkpoint=request.param)(space["one"])

    @workflow
    def ship(wf):
        wf.timeline(one)

    ship.one = space["one"]
    return ship


@pytest.fixture
def memory():
    return MemoryStore()


def fail(ship, memory):
    with pytest.raises(WorkflowError) as failed:
        ship.run({}, store=memory)
    return failed.value


def test_a_traceback_has_the_lines_of_the_file(ship, memory):
    cause = fail(ship, memory).__cause__
    frames = [(f.name, f.lineno, f.line) for f in traceback.extract_tb(cause.__traceback__) if f.filename == FILE]
    assert frames == [("one", 13, "return fails(seen)"), ("fails", 16, "return 1 / inputs_of(seen)")]
    text = "".join(traceback.format_exception(cause))
    assert re.search(r"return 1 / inputs_of\(seen\)\n\s+~~\^~~~", text)


def test_inspect_sees_the_function_as_it_is_written(ship):
    assert inspect.getsource(ship.one) == SOURCE.partition("\n\n")[0] + "\n"
    assert str(inspect.signature(ship.one)) == "(inputs)" and ship.one.__doc__ == "A text."


def test_a_tracer_sees_every_line_that_runs_and_no_other(ship, memory):
    lines = []

    def trace(frame, event, _):
        if frame.f_code.co_filename != FILE:
            return None
        if event == "line" and frame.f_code.co_name == "one":
            lines.append(frame.f_lineno)
        return trace

    async def live():
        sys.settrace(trace)
        try:
            await ship.execute({}, store=memory)
        finally:
            sys.settrace(before)

    before = sys.gettrace()
    with pytest.raises(WorkflowError):
        asyncio.run(live())
    assert sorted(set(lines)) == [3, 4, 5, 6, 7, 8, 10, 11, 12, 13]


def test_a_breakpoint_stops_with_the_variables(ship, memory):
    stops = []

    class Debugger(bdb.Bdb):
        def user_line(self, frame):
            if self.break_here(frame):
                stops.append((frame.f_lineno, dict(frame.f_locals)["seen"][:]))
            self.set_continue()

    debugger = Debugger()
    debugger.get_file_breaks(FILE)
    debugger.breaks[FILE] = [10]
    bdb.Breakpoint(FILE, 10)

    async def live():
        debugger.set_trace()
        try:
            await ship.execute({}, store=memory)
        finally:
            debugger.set_quit()

    before = sys.gettrace()
    try:
        with pytest.raises(WorkflowError):
            asyncio.run(live())
    finally:
        sys.settrace(before)
        bdb.Breakpoint.clearBreakpoints()
    assert stops == [(10, []), (10, ["finally", 1])]
