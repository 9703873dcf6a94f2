"""Cell by cell, `here()`, `%cerebelum` and nesting, in a real kernel."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from .live import Cell, LiveKernel, live_kernel

SETUP = """
%load_ext cerebelum_nb
import asyncio
import cerebelum_nb
from cerebelum_nb import Secret, enable_nesting, here, step, workflow

@step
def build(inputs):
    return {"image": inputs["name"]}

@step
def ship(build, inputs):
    target = build["image"].upper()
    if inputs.get("broken"):
        raise ValueError(f"no room for {target}")
    return target

@step
def tell(ship):
    return f"shipped {ship}"

@workflow
def release(wf):
    wf.timeline(build >> ship >> tell)
"""


def text(cell: Cell) -> str:
    """Return what the cell's last expression showed."""
    assert cell.ok, cell.error
    return str(cell.shown[-1]["text/plain"]) if cell.shown else ""


FAIL = "run = release.begin({'name': 'web', 'broken': True})\nawait run.finish()"


def test_each_cell_moves_the_run_and_shows_what_happened(kernel: LiveKernel) -> None:
    assert "0 of 3 steps done, next: build" in text(kernel.run("run = release.begin({'name': 'web'})\nrun"))
    assert text(kernel.run("await run.next()")) == 'build: done, {"image":"web"}\nnext: ship'
    assert text(kernel.run("await run.run_to('ship')")) == 'ship: done, "WEB"\nnext: tell'
    assert text(kernel.run("run['ship']")) == "'WEB'"
    assert text(kernel.run("(await run.finish()).output")) == "'shipped WEB'"


def test_a_killed_kernel_attaches_and_continues(tmp_path: Path) -> None:
    with live_kernel(tmp_path) as kernel:
        assert kernel.run(SETUP).ok
        kernel.run("run = release.begin({'name': 'web'})\nawait run.next()")
        (execution_id,) = kernel.run("print(run.execution_id)").printed.split()
        kernel.manager.signal_kernel(signal.SIGKILL)
    with live_kernel(tmp_path) as kernel:
        assert kernel.run(SETUP).ok
        attached = kernel.run(f"run = release.attach('{execution_id}')\nrun")
        assert "1 of 3 steps done, next: ship" in text(attached)
        assert text(kernel.run("await run.next()")) == 'ship: done, "WEB"\nnext: tell'
        assert "COMPLETED" in text(kernel.run("await run.finish()"))


def test_the_stop_button_pauses_and_the_next_cell_continues(kernel: LiveKernel) -> None:
    kernel.run("@step\nasync def ship(build):\n    print('ship waits', flush=True)\n    await asyncio.sleep(60)")
    kernel.run("run = release.begin({'name': 'web'})\nawait run.next()")
    stopped = kernel.run("await run.next()", interrupt_when="ship waits")
    assert "ExecutionStoppedError" in stopped.error
    kernel.run("@step\nasync def ship(build):\n    return 'fixed'")
    assert text(kernel.run("await run.next()")) == 'ship: done, "fixed"\nnext: tell'


def test_the_plan_in_a_kernel_names_the_edited_cell(kernel: LiveKernel) -> None:
    kernel.run("run = release.begin({'name': 'web'})\nawait run.run_to('ship')")
    kernel.run("@step\ndef build(inputs):\n    return {'image': inputs['name'] + '!'}")
    shown = text(kernel.run("run.plan()"))
    assert "! build  stale  the step's own code changed at line 3" in shown, shown
    assert "! ship   stale  depends on `build`, which is stale" in shown
    assert "▶ tell   run    has not run yet" in shown
    assert text(kernel.run(f"%cerebelum plan {'{run.execution_id}'}")) == shown


def test_here_shows_the_live_variables_of_the_step_that_failed(kernel: LiveKernel) -> None:
    assert "no room for WEB" in kernel.run(FAIL).error
    assert text(kernel.run("here().target")) == "'WEB'"
    assert text(kernel.run("here().build, here().step, type(here().error).__name__")) == (
        "({'image': 'web'}, 'ship', 'ValueError')"
    )
    assert "target = 'WEB'" in text(kernel.run("here()"))
    missing = kernel.run("here().targit")
    assert "step 'ship' has no variable 'targit'; available: build, inputs, target" in missing.error


def test_here_puts_the_names_into_the_notebook_when_asked(kernel: LiveKernel) -> None:
    kernel.run(FAIL)
    assert kernel.run("here(into=globals())\nprint(target)").printed == "WEB\n"


def test_here_takes_the_error_that_was_caught(kernel: LiveKernel) -> None:
    kernel.run(
        "try:\n    await release.execute({'name': 'api', 'broken': True})\nexcept Exception as error:\n    e = error"
    )
    assert text(kernel.run("here(e).target")) == "'API'"
    assert "takes the error of a run" in kernel.run("here(3)").error


def test_here_reads_the_arguments_from_the_log_in_a_new_kernel(tmp_path: Path) -> None:
    with live_kernel(tmp_path) as kernel:
        kernel.run(SETUP)
        kernel.run(FAIL)
    with live_kernel(tmp_path) as kernel:
        kernel.run(SETUP)
        assert text(kernel.run("here().build")) == "{'image': 'web'}"
        assert text(kernel.run("here().inputs")) == "{'name': 'web', 'broken': True}"
        assert text(kernel.run("here().target")) == "'WEB'"  # a variable at the failed line
        assert "has no variable 'nothing'" in kernel.run("here().nothing").error


def test_here_without_a_failure_says_so(kernel: LiveKernel) -> None:
    kernel.run("import sys\nfor name in ('last_value', 'last_exc'):\n    vars(sys).pop(name, None)")
    assert "no execution of this log has failed" in kernel.run("here()").error
    assert "There is no execution 'nope'" in kernel.run("here('nope')").error
    kernel.run("r = await release.execute({'name': 'x'})")
    assert "none of its steps failed" in kernel.run("here(r.execution_id)").error


def test_the_line_magic_lists_inspects_and_resumes(kernel: LiveKernel) -> None:
    kernel.run(FAIL)
    assert "release" in text(kernel.run("%cerebelum list"))
    assert "FAILED" in text(kernel.run("%cerebelum list release"))
    assert "ship" in text(kernel.run("%cerebelum status"))
    assert "ship" in text(kernel.run("%cerebelum history"))
    kernel.run("@step\ndef ship(build):\n    return 'fixed'")
    assert "COMPLETED" in text(kernel.run("%cerebelum resume"))
    assert "%cerebelum resume [EXECUTION] [STEP]" in text(kernel.run("%cerebelum help"))


def test_the_line_magic_cancels(kernel: LiveKernel) -> None:
    kernel.run("run = release.begin({'name': 'web'})")
    assert "cancelled" in text(kernel.run("%cerebelum cancel {run.execution_id}"))
    assert "was cancelled" in kernel.run("await run.next()").error


ASKING = """
from datetime import timedelta
from cerebelum_nb._store.connect import default_store
default_store().hibernate_after = timedelta(0)

@step
async def ask():
    return await cerebelum_nb.wait_for_approval("budget")

@workflow
def purchase(wf):
    wf.timeline(ask)

run = await purchase.execute()
"""


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ('approve {run.execution_id} {"size": 2}', "{'size': 2}"),
        ("approve {run.execution_id}", "None"),
        ("reject {run.execution_id} too dear", "rejected by"),
    ],
)
def test_the_line_magic_decides(kernel: LiveKernel, answer: str, outcome: str) -> None:
    assert kernel.run(ASKING).ok
    assert "%cerebelum resume" in text(kernel.run(f"%cerebelum {answer}"))
    done = kernel.run("print((await purchase.resume()).output)")
    assert outcome in done.printed + done.error


def test_the_output_of_the_line_magic_fits_a_cell(kernel: LiveKernel) -> None:
    kernel.run(FAIL)
    for line, rows in (("%cerebelum list", 1), ("%cerebelum history", 2)):
        shown = text(kernel.run(line))
        assert len(shown.splitlines()) == 1 + rows, shown


@pytest.mark.parametrize(
    "cell",
    [
        "%cerebelum status zzz",
        "await release.resume('zzz')",
        "@workflow\ndef w(wf): ...\nw.run()",
        "@step(retries='x')\ndef a(): ...",
    ],
)
def test_an_error_shows_the_cell_and_no_frame_of_the_library(kernel: LiveKernel, cell: str) -> None:
    shown = kernel.run(cell).error
    assert "Cell In[" in shown
    assert "cerebelum_nb/" not in shown and "asyncio/" not in shown and "IPython/" not in shown


def test_an_unknown_id_names_the_magic_that_lists(kernel: LiveKernel) -> None:
    assert "List what there is with `%cerebelum list`" in kernel.run("await release.resume('zzz')").error


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("%cerebelum lst", "did you mean %cerebelum list?"),
        ("%cerebelum approve", "Write %cerebelum approve EXECUTION [RESPONSE ...]"),
        ("%cerebelum status nope", "There is no execution 'nope'"),
        ("%cerebelum plan", "this log holds no execution yet"),
        ("%cerebelum list a b c", "Write %cerebelum list [WORKFLOW]"),
    ],
)
def test_an_invalid_line_says_what_to_write(kernel: LiveKernel, line: str, message: str) -> None:
    assert message in kernel.run(line).error


def completions(kernel: LiveKernel, line: str) -> list[str]:
    kernel.client.complete(line, len(line))
    while True:
        message = kernel.client.get_shell_msg(timeout=120)
        if message["msg_type"] == "complete_reply":
            return list(message["content"]["matches"])


def test_commands_ids_workflows_and_steps_are_completed(kernel: LiveKernel) -> None:
    kernel.run("run = release.begin({'name': 'web'})")
    (execution_id,) = kernel.run("print(run.execution_id)").printed.split()
    assert "resume" in completions(kernel, "%cerebelum re")
    assert execution_id in completions(kernel, "%cerebelum resume ")
    assert execution_id in completions(kernel, f"%cerebelum status {execution_id[:3]}")
    assert "release" in completions(kernel, "%cerebelum list rel")
    assert "ship" in completions(kernel, f"%cerebelum resume {execution_id} sh")


def test_the_extension_is_unloaded_and_loaded_again(kernel: LiveKernel) -> None:
    kernel.run("%unload_ext cerebelum_nb")
    assert "not found" in (done := kernel.run("%cerebelum list")).error + done.printed
    assert kernel.run("%load_ext cerebelum_nb\n%load_ext cerebelum_nb").ok
    assert kernel.run("%%step again\nx = 1").ok


def test_nesting_is_off_until_it_is_switched_on(tmp_path: Path) -> None:
    nested = "async def f():\n    await asyncio.sleep(0)\n    return 3\nprint(asyncio.run(f()))"
    with live_kernel(tmp_path) as kernel:
        kernel.run(SETUP)
        assert "cannot be called from a running event loop" in kernel.run(nested).error
        assert kernel.run("enable_nesting()\nenable_nesting()").ok
        assert kernel.run(nested).printed == "3\n"
        assert text(kernel.run("(await release.execute({'name': 'web'})).output")).endswith("'shipped WEB'")
        assert text(kernel.run("release.run({'name': 'web'}).output")).endswith("'shipped WEB'")


def test_a_run_in_the_background_is_watched_and_a_paused_run_says_how_to_continue(kernel: LiveKernel) -> None:
    begun = "import asyncio\nrun = release.begin({'name': 'web'})\nbehind = asyncio.ensure_future(run.finish())"
    seen = kernel.run(f"{begun}\nawait asyncio.sleep(0)\nrun.watch()\nawait behind;")
    assert [card["text/plain"].splitlines()[0] for card in seen.shown] == ["release: completed, 3 of 3 steps"] * 2
    told = kernel.run("run.watch()").error
    assert "is not running in this kernel: it is COMPLETED" in told
