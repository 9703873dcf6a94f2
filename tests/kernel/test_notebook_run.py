"""``%%step`` in a real kernel: run, skipped, restored, run again after a change, killed at every step."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path

import IPython
import pytest

from ..waiting import wait_for
from .live import Cell, LiveKernel, live_kernel

SETUP = """
%load_ext cerebelum_nb
import asyncio, os, pathlib
LOG = pathlib.Path("ran.txt")
def note(name):
    with LOG.open("a") as file:
        file.write(name + "\\n")
def clean(text):
    return text.strip()
SIZE = 2
"""

LOAD = "%%step load\nnote('load')\nawait asyncio.sleep(0)\nrows = [1, 2, 3]\nname = clean(' web ')"
TOTAL = "%%step total\nnote('total')\ntotal = sum(rows) * SIZE"
SHOW = "%%step show\nnote('show')\nf'{name}: {total}'"


def shown(cell: Cell) -> list[str]:
    assert cell.ok, cell.error
    return [data["text/plain"] for data in cell.shown]


def ran(kernel: LiveKernel) -> list[str]:
    return kernel.run("print(LOG.read_text() if LOG.exists() else '')").printed.split()


def run_all(kernel: LiveKernel) -> None:
    for cell in (LOAD, TOTAL, SHOW):
        assert kernel.run(cell).ok


def test_a_step_runs_like_any_cell_and_leaves_its_variables(kernel: LiveKernel) -> None:
    assert shown(kernel.run(LOAD)) == []
    assert kernel.run("print(rows, name)").printed == "[1, 2, 3] web\n"
    kernel.run(TOTAL)
    assert shown(kernel.run(SHOW)) == ["'web: 12'"]
    printed = kernel.run(
        "rows_, _ = cerebelum_nb._store.connect.default_store().executions()\n"
        "print(rows_[0].summary.workflow, rows_[0].summary.state)\n"
        "print(cerebelum_nb.history.outputs(rows_[0].execution_id))"
    )
    assert "notebook PAUSED" in printed.printed, printed
    assert "'show': 'web: 12'" in printed.printed or '"web: 12"' in printed.printed, printed


def test_run_again_unchanged_it_is_skipped_and_says_so(kernel: LiveKernel) -> None:
    run_all(kernel)
    assert shown(kernel.run(LOAD)) == ["load: unchanged, not run again; restored rows, name"]
    assert shown(kernel.run(SHOW)) == ["show: unchanged, not run again", "'web: 12'"]
    assert ran(kernel) == ["load", "total", "show"]


def test_after_a_restart_the_variables_are_restored(kernel: LiveKernel) -> None:
    run_all(kernel)
    kernel.run("del rows, name, total")
    run_all(kernel)
    assert kernel.run("print(rows, name, total)").printed == "[1, 2, 3] web 12\n"
    assert ran(kernel) == ["load", "total", "show"]


def test_comments_and_formatting_do_not_count(kernel: LiveKernel) -> None:
    run_all(kernel)
    kernel.run(TOTAL.replace("sum(rows) * SIZE", "sum( rows )*SIZE  # all of them"))
    assert ran(kernel) == ["load", "total", "show"]


@pytest.mark.parametrize(
    ("edit", "cell", "why"),
    [
        ("SIZE = 3", TOTAL, "total: runs again: variable `SIZE` was 2, is 3"),
        (
            "def clean(text):\n    return text.strip().upper()",
            LOAD,
            "load: runs again: helper `clean` changed at line 2",
        ),
        ("", TOTAL.replace("sum", "max"), "total: runs again: the step's own code changed at line 3"),
    ],
)
def test_a_changed_step_runs_again_and_the_change_is_named(kernel: LiveKernel, edit: str, cell: str, why: str) -> None:
    run_all(kernel)
    kernel.run(edit)
    assert shown(kernel.run(cell)) == [why]


def test_its_dependants_run_too_and_other_steps_do_not(kernel: LiveKernel) -> None:
    run_all(kernel)
    changed = LOAD.replace("3]", "4]")
    for cell in (changed, TOTAL, SHOW):
        assert kernel.run(cell).ok
    assert ran(kernel) == ["load", "total", "show", "load", "total", "show"]
    kernel.run("SIZE = 5")
    for cell in (changed, TOTAL, SHOW):
        assert kernel.run(cell).ok
    assert ran(kernel)[6:] == ["total", "show"]


def test_a_step_that_changes_its_own_variable_is_not_run_again(kernel: LiveKernel) -> None:
    kernel.run(LOAD)
    more = "%%step more\nnote('more')\nrows = rows + [4]"
    kernel.run(more)
    kernel.run(more)
    assert kernel.run("print(rows)").printed == "[1, 2, 3, 4]\n"
    assert ran(kernel) == ["load", "more"]


def test_a_variable_changed_in_place_is_recorded_too(kernel: LiveKernel) -> None:
    append = "%%step append\nnote('append')\nrows.append(4)"
    for _ in range(2):
        kernel.run(LOAD)
        assert kernel.run(append).ok
    assert kernel.run("print(rows)").printed == "[1, 2, 3, 4]\n"
    assert ran(kernel) == ["load", "append"]


def test_imports_functions_and_classes_are_defined_again(kernel: LiveKernel) -> None:
    cell = "%%step tools\nnote('tools')\nimport math\nK = 2\ndef area(r):\n    return round(math.pi * r * K)\n"
    kernel.run(cell)
    kernel.run("del math, area, K")
    assert kernel.run(cell).ok
    assert kernel.run("K = 1; print(area(1))").printed == "3\n"
    assert ran(kernel) == ["tools"]


def test_a_failed_cell_raises_its_own_error_and_runs_again(kernel: LiveKernel) -> None:
    kernel.run(LOAD)
    failed = kernel.run("%%step bad\nnote('bad')\nratio = 1 / 0")
    assert "ZeroDivisionError" in failed.error
    assert "ratio = 1 / 0" in failed.error
    assert "WorkflowError" not in failed.error
    fixed = kernel.run("%%step bad\nnote('bad')\nratio = 1")
    assert shown(fixed) == ["bad: runs again: it failed"]
    assert kernel.run("%%step other\nx = 1").ok
    assert ran(kernel) == ["load", "bad", "bad"]


def test_a_failed_cell_says_what_is_kept(kernel: LiveKernel) -> None:
    kernel.run(LOAD)
    failed = kernel.run("%%step bad\nratio = 1 / 0")
    assert "bad: failed; finished steps are kept. Fix the cell and run it again" in str(failed.shown)


def test_a_variable_that_cannot_be_stored_says_how_to_leave_it_out(kernel: LiveKernel) -> None:
    failed = kernel.run("%%step gen\nrunning = (n for n in rows_)\n".replace("rows_", "[1]"))
    assert "cannot be stored" in failed.error
    assert "running" in failed.error
    assert "underscore" in failed.error
    assert kernel.run("%%step gen\n_running = (n for n in [1])\nfirst = next(_running)").ok


@pytest.mark.skipif(
    IPython.version_info < (8,) and sys.version_info >= (3, 12),
    reason="IPython 7 does not find `x = !command` in any cell from Python 3.12 on, whose tokenizer is another",
)
def test_magics_and_shell_lines_work_inside(kernel: LiveKernel) -> None:
    cell = kernel.run("%%step shell\nlines = !echo hello\nlines = list(lines)\n")
    assert cell.ok, cell.error
    assert kernel.run("print(lines)").printed == "['hello']\n"


def test_a_variable_that_a_magic_assigns_is_restored_too(kernel: LiveKernel) -> None:
    cell = "%%step timed\nnote('timed')\n%time took = 3"
    assert kernel.run(cell).ok
    kernel.run("del took")
    assert shown(kernel.run(cell)) == ["timed: unchanged, not run again; restored took"]
    assert kernel.run("print(took)").printed == "3\n"


def test_a_secret_is_not_in_the_log_so_its_step_runs_again(kernel: LiveKernel) -> None:
    cell = "%%step login\nfrom cerebelum_nb import Secret\ntoken = Secret('hunter2000')"
    assert kernel.run(cell).ok
    assert shown(kernel.run(cell)) == ["login: runs again: its result holds a secret, which is not in the log"]
    assert kernel.run("print(b'hunter2000' in open('log.db', 'rb').read())").printed == "False\n"


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("%%step\nx = 1", "give %%step one name"),
        ("%%step two words\nx = 1", "give %%step one name"),
        ("%%step 3x\nx = 1", "cannot be a step's name"),
        ("%%step inputs\nx = 1", "is reserved"),
        ("%%step broken\nx = = 1", "SyntaxError"),
    ],
)
def test_an_invalid_line_is_refused_with_what_to_write(kernel: LiveKernel, cell: str, message: str) -> None:
    assert message in kernel.run(cell).error


def test_its_error_shows_only_the_code_of_its_author(kernel: LiveKernel) -> None:
    assert "__import__" not in kernel.run("%%step\nx = 1").error


@pytest.mark.parametrize("wait", ["await asyncio.sleep(60)", "import time; time.sleep(60)"])
def test_the_stop_button_stops_a_step_and_it_runs_again(kernel: LiveKernel, wait: str) -> None:
    stopped = kernel.run(f"%%step slow\nprint('slow waits', flush=True)\n{wait}\nx = 1", interrupt_when="slow waits")
    assert "ExecutionStoppedError" in stopped.error
    assert "run the cell again" in stopped.error
    assert shown(kernel.run("%%step slow\nx = 2")) == ["slow: runs again: it was interrupted"]


def test_two_notebooks_in_one_log_are_separate(kernel: LiveKernel) -> None:
    kernel.run(LOAD)
    assert shown(kernel.run("%cerebelum notebook other")) == ["other: is the name of this notebook's own run"]
    kernel.run(LOAD)
    assert ran(kernel) == ["load", "load"]
    kernel.run("%cerebelum notebook notebook")
    kernel.run(LOAD)
    assert ran(kernel) == ["load", "load"]


def test_after_starting_over_every_step_runs_again(kernel: LiveKernel) -> None:
    run_all(kernel)
    assert shown(kernel.run("%cerebelum fresh")) == ["this notebook: starts over; every step will run"]
    run_all(kernel)
    run_all(kernel)
    assert ran(kernel) == ["load", "total", "show"] * 2


def test_a_dataframe_is_restored_and_compared_by_content(kernel: LiveKernel) -> None:
    frame = "%%step frame\nnote('frame')\nimport pandas as pd\ndf = pd.DataFrame({'a': [1, 2]})"
    use = "%%step use\nnote('use')\ns = int(df['a'].sum())"
    for _ in range(2):
        assert kernel.run(frame).ok
        assert kernel.run(use).ok
        assert kernel.run("del df").ok
    assert kernel.run(frame).ok
    kernel.run("df['a'] = 7")
    assert kernel.run(use).ok
    assert ran(kernel) == ["frame", "use", "use"]


NUMBERED = [
    f"%%step step_{n}\nnote('begin_{n}')\nprint('at {n}', flush=True)\n"
    f"await asyncio.sleep(30 if pathlib.Path('hang_{n}').exists() else 0)\n"
    f"v{n} = {f'v{n - 1} + 1' if n else '0'}\nnote('end_{n}')"
    for n in range(4)
]


@pytest.mark.parametrize("at", [1, *(pytest.param(at, marks=pytest.mark.soak) for at in (0, 2, 3))])
def test_after_a_kill_at_a_step_each_finished_cell_is_restored(tmp_path: Path, at: int) -> None:
    (tmp_path / f"hang_{at}").touch()
    with live_kernel(tmp_path) as kernel:
        assert kernel.run(SETUP).ok
        for cell in NUMBERED[:at]:
            assert kernel.run(cell).ok
        kernel.client.execute(NUMBERED[at])
        ran = tmp_path / "ran.txt"
        wait_for(lambda: ran.exists() and f"begin_{at}" in ran.read_text(), f"cell {at} begins")
        kernel.manager.signal_kernel(signal.SIGKILL)
    (tmp_path / f"hang_{at}").unlink()
    with live_kernel(tmp_path) as kernel:
        for cell in [SETUP, *NUMBERED]:
            again = kernel.run(cell)
            assert again.ok, again.error
        assert kernel.run("print(v0, v1, v2, v3)").printed == "0 1 2 3\n"
    lines = (tmp_path / "ran.txt").read_text().split()
    assert [line for line in lines if line.startswith("end")] == [f"end_{n}" for n in range(4)]
    assert [lines.count(f"begin_{n}") for n in range(4)] == [2 if n == at else 1 for n in range(4)]


def test_after_a_restart_the_variables_of_a_loop_are_restored(kernel: LiveKernel) -> None:
    cells = ["%%step loop\nnote('loop')\nfor last in [1, 2]:\n    print(last)\nlast * 10", "print('LAST', last)"]
    assert kernel.run(cells[0]).ok
    kernel.run("del last")
    again = kernel.run(cells[0])
    assert again.ok, again.error
    assert "20" in str(again.shown)
    assert "LAST 2" in kernel.run(cells[1]).printed


def test_a_failure_is_shown_in_the_users_own_cell(kernel: LiveKernel) -> None:
    failed = kernel.run("%%step bad\nx = 1\ny = x / 0")
    assert "run_step" not in failed.error and "__import__" not in failed.error
    where = r"Cell .*?In\s?\[(\d+)\]|/(\d+)\.py in <module>"  # the second is how IPython 7 names a cell
    assert len(set(re.findall(where, failed.error))) == 1


def test_a_name_that_is_not_defined_is_reported(kernel: LiveKernel) -> None:
    assert kernel.run("size = 3").ok
    assert kernel.run("%%step use\ndouble = size * 2").ok
    kernel.run("del size")
    assert "`size` is not defined here yet" in str(kernel.run("%%step use\ndouble = size * 2").shown)
