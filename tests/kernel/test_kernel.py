"""What a person does in a notebook: run, stop, edit, resume, restart; in a real kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from .live import LiveKernel, live_kernel

SETUP = """
import asyncio, time
import cerebelum_nb
from cerebelum_nb import step, workflow, sleep, history
from cerebelum_nb._store.connect import default_store
def states():
    rows, _ = default_store().executions()
    return [str(row.summary.state) for row in rows]
"""

WAITING = """
@step
async def first():
    print("first ran")
    return 1
@step
async def second(first):
    print("second waits", flush=True)
    await {wait}
    return first + 1
@workflow
def deploy(wf):
    wf.timeline(first >> second)
"""


@pytest.mark.parametrize("wait", ["asyncio.sleep(60)", "sleep('60s')"])
def test_the_stop_button_pauses_an_async_step_and_the_edited_cell_continues(kernel: LiveKernel, wait: str) -> None:
    assert kernel.run(WAITING.format(wait=wait)).ok
    stopped = kernel.run("await deploy.execute()", interrupt_when="second waits")
    assert "ExecutionStoppedError" in stopped.error
    assert "await deploy.resume(" in stopped.error
    assert kernel.run("print(states())").printed.strip() == "['PAUSED']"
    assert kernel.run(
        WAITING.format(wait="asyncio.sleep(0)").split("@workflow")[0].split("@step\nasync def second")[0]
    ).ok
    fixed = kernel.run("@step\nasync def second(first):\n    return first + 10")
    assert fixed.ok, fixed.error
    resumed = kernel.run("result = await deploy.resume(); print(result.output)")
    assert resumed.printed.strip().endswith("11"), resumed
    assert "first ran" not in resumed.printed


def test_the_stop_button_pauses_a_plain_step_in_its_thread(kernel: LiveKernel) -> None:
    kernel.run(
        "import threading\ngate = threading.Event()\n"
        "@step\ndef busy():\n    print('busy', flush=True)\n    gate.wait(60)\n    return 1\n"
        "@workflow\ndef deploy(wf):\n    wf.timeline(busy)"
    )
    stopped = kernel.run("await deploy.execute()", interrupt_when="busy")
    assert "ExecutionStoppedError" in stopped.error
    refused = kernel.run("await deploy.resume()")
    assert "ExecutionBusyError" in refused.error
    assert "still running in this process" in refused.error
    when_free = (
        "gate.set()\nwhile True:\n    try:\n        r = await deploy.resume()\n        break\n"
        "    except cerebelum_nb.ExecutionBusyError:\n        await asyncio.sleep(0.05)\nprint(r.output)"
    )
    later = kernel.run(when_free)
    assert later.printed.strip().endswith("1"), later


def test_a_second_stop_breaks_into_a_step_that_blocks_the_loop(kernel: LiveKernel) -> None:
    kernel.run(
        "@step\nasync def rude():\n    print('rude', flush=True)\n    time.sleep(25)\n"
        "@workflow\ndef deploy(wf):\n    wf.timeline(rude)"
    )
    stopped = kernel.run("await deploy.execute()", interrupt_when="rude", presses=2)
    assert "ExecutionStoppedError" in stopped.error
    assert kernel.run("print(states())").printed.strip() == "['PAUSED']"


def test_the_stop_button_works_while_run_blocks_the_cell(kernel: LiveKernel) -> None:
    kernel.run(WAITING.format(wait="asyncio.sleep(60)"))
    stopped = kernel.run("deploy.run()", interrupt_when="second waits")
    assert "ExecutionStoppedError" in stopped.error
    assert kernel.run("print(states())").printed.strip() == "['PAUSED']"


def test_run_in_a_cell_needs_no_patching_and_prints_into_that_cell(kernel: LiveKernel) -> None:
    kernel.run(WAITING.format(wait="asyncio.sleep(0)"))
    cell = kernel.run("print(deploy.run().output)")
    assert cell.ok, cell.error
    assert "first ran" in cell.printed
    assert cell.printed.strip().endswith("2")


@pytest.mark.parametrize("fatal", ["raise SystemExit(3)", "raise KeyboardInterrupt", "import sys; sys.exit('bye')"])
@pytest.mark.parametrize("kind", ["async def", "def"])
def test_a_step_that_would_end_the_kernel_fails(kernel: LiveKernel, fatal: str, kind: str) -> None:
    kernel.run(f"@step\n{kind} fatal():\n    {fatal}\n@workflow\ndef deploy(wf):\n    wf.timeline(fatal)")
    failed = kernel.run("await deploy.execute()")
    assert "WorkflowError" in failed.error, failed
    assert "step 'fatal'" in failed.error
    assert kernel.run("print('alive', states())").printed.strip() == "alive ['FAILED']"


def test_a_run_in_the_background_continues_between_cells(kernel: LiveKernel) -> None:
    kernel.run(WAITING.format(wait="asyncio.sleep(0.2)"))
    started = kernel.run("run = deploy.start()\nprint(run.status)")
    assert started.ok, started.error
    assert kernel.run("print('another cell')").printed.strip() == "another cell"
    assert kernel.run("print((await run).output)").printed.strip().endswith("2")


def test_the_message_of_a_failure_is_on_one_screen_and_shows_only_the_users_code(kernel: LiveKernel) -> None:
    kernel.run(
        "@step\nasync def broken():\n    return {}['no such key']\n@workflow\ndef deploy(wf):\n    wf.timeline(broken)"
    )
    failed = kernel.run("await deploy.execute()")
    assert "KeyError: 'no such key'" in failed.error
    assert len(failed.error.splitlines()) < 40, failed.error
    assert "attempt.py" not in failed.error
    assert "engine.py" not in failed.error
    assert failed.error.rstrip().splitlines()[-1].strip().startswith("await deploy.resume(")
    card = failed.shown[0]["text/plain"]
    assert "in broken" in card and "in broken" not in failed.error, "the user's frames are shown once, by the card"
    assert "deploy.resume(" in card, "whoever reads only the card finds the call too"


QUICK = "@step\ndef quick():\n    return 1\n@workflow\ndef deploy(wf):\n    wf.timeline(quick)"


def test_a_live_card_carries_its_text_for_a_front_end_without_widgets(kernel: LiveKernel) -> None:
    kernel.run(QUICK)
    first, *_, last = kernel.run("await deploy.execute();", as_a_person=True).shown
    assert "application/vnd.jupyter.widget-view+json" in first
    assert first["text/plain"].startswith("deploy: starting, 0 of 1 steps\n  · quick\n")
    assert "cerebelum_nb.watch() shows it live" in first["text/plain"]
    assert set(last) == {"text/plain", "text/html"}
    assert last["text/plain"] == "deploy: completed, 1 of 1 steps\n  ✓ quick"


def test_the_widgets_of_ended_runs_are_kept_for_a_closed_tab_and_do_not_add_up(kernel: LiveKernel) -> None:
    kernel.run(QUICK)
    counts = [
        kernel.run(
            "for _ in range(4):\n    await deploy.execute()\nprint(len(get_ipython().kernel.comm_manager.comms))",
            as_a_person=True,
        ).printed
        for _ in range(3)
    ]
    assert int(counts[0]) > 0
    assert counts[1] == counts[2]


def test_a_failure_that_is_awaited_in_another_cell_shows_the_users_code(kernel: LiveKernel) -> None:
    kernel.run(
        "@step\ndef broken():\n    return {}['no such key']\n@workflow\ndef deploy(wf):\n    wf.timeline(broken)"
    )
    assert kernel.run("run = deploy.start()").ok
    assert "in broken" in kernel.run("await run").error


def test_a_secret_that_a_step_prints_or_raises_is_masked_in_its_cell(kernel: LiveKernel) -> None:
    kernel.run(
        "from cerebelum_nb import Secret\ntoken = Secret('hunter2-hunter2')\n"
        "@step\ndef login():\n    found = token.reveal()\n    print('with', found)\n"
        "    raise ValueError(f'refused {found}')\n"
        "@workflow\ndef enter(wf):\n    wf.timeline(login)"
    )
    cell = kernel.run("await enter.execute()")
    assert "with" in cell.printed
    assert "refused" in cell.error
    assert "hunter2" not in f"{cell.printed}{cell.error}{cell.shown}"


def test_restart_and_run_all_says_in_one_line_which_run_can_be_resumed(tmp_path: Path) -> None:
    cells = (
        SETUP,
        "@step\ndef broken():\n    raise ValueError('no')\n@workflow\ndef deploy(wf):\n    wf.timeline(broken)",
    )
    told = []
    for execution_id in ("k1", "k2"):
        with live_kernel(tmp_path) as kernel:
            assert all(kernel.run(cell).ok for cell in cells)
            told.append(kernel.run(f"await deploy.execute(execution_id='{execution_id}')").printed)
    first, second = told
    assert first == ""
    assert "had the same inputs and failed at 'broken'" in second
    assert second.rstrip().endswith('await deploy.resume("k1")')
    assert len(second.splitlines()) == 1


def test_sigint_does_what_it_did_before_once_the_run_is_over(kernel: LiveKernel) -> None:
    kernel.run(WAITING.format(wait="asyncio.sleep(0)"))
    kernel.run("import signal; before = signal.getsignal(signal.SIGINT); await deploy.execute()")
    stopped = kernel.run("print('loop', flush=True)\nwhile True: time.sleep(0.01)", interrupt_when="loop")
    assert "KeyboardInterrupt" in stopped.error


@pytest.mark.parametrize("ending", ["kill", "restart"])
def test_a_kernel_that_goes_away_leaves_a_run_that_resumes(tmp_path: Path, ending: str) -> None:
    cells = SETUP + WAITING.format(wait="asyncio.sleep(60)")
    with live_kernel(tmp_path) as kernel:
        assert kernel.run(cells).ok
        started = kernel.run("run = deploy.start()\nawait asyncio.sleep(0.3)\nprint(run.status)")
        assert started.printed.strip().endswith("RUNNING"), started
        if ending == "kill":
            kernel.manager.signal_kernel(9)
        kernel.manager.restart_kernel(now=ending == "kill")
        kernel.client.wait_for_ready(timeout=240)
        assert kernel.run(SETUP + WAITING.format(wait="asyncio.sleep(0)")).ok
        resumed = kernel.run("result = await deploy.resume()\nprint(result.output)")
        assert resumed.printed.strip().endswith("2"), resumed
        assert "first ran" not in resumed.printed


def test_a_run_in_the_background_is_watched_from_any_cell(kernel: LiveKernel) -> None:
    assert kernel.run(WAITING.format(wait="asyncio.sleep(0.5)")).ok
    assert kernel.run("run = deploy.start()").shown == []
    seen = kernel.run("run.watch()\nprint('goes on')\nresult = await run")
    assert seen.ok and "goes on" in seen.printed
    (card,) = seen.shown
    assert "deploy: completed" in card["text/plain"]


def test_a_step_in_a_process_of_its_own_is_defined_in_a_cell_and_ended_by_the_stop_button(kernel: LiveKernel) -> None:
    kernel.run(
        "import os\nFACTOR = 2\ndef twice(n):\n    return FACTOR * n\nclass Odd(Exception): pass\n"
        "@step(process=True)\ndef work(inputs):\n    print('at work in', os.getpid(), flush=True)\n"
        "    if inputs['n'] == 1:\n        time.sleep(60)\n"
        "    if inputs['n'] == 3:\n        raise Odd('three')\n"
        "    return twice(inputs['n'])\n"
        "@workflow\ndef deploy(wf):\n    wf.timeline(work)"
    )
    ran = kernel.run("result = await deploy.execute({'n': 2}); print(result.output)")
    assert ran.printed.strip().endswith("4"), ran
    failed = kernel.run("await deploy.execute({'n': 3})")
    shown = str(failed.shown)
    assert "Cell In[" in shown
    assert "raise Odd(" in shown
    assert "ipykernel" not in shown
    stopped = kernel.run("await deploy.execute({'n': 1})", interrupt_when="at work in")
    assert "ExecutionStoppedError" in stopped.error
    pid = stopped.printed.split("at work in ")[1].split()[0]
    ended = kernel.run(
        f"while os.path.exists('/proc/{pid}'): await asyncio.sleep(0.01)\n"
        f"result = await deploy.resume(inputs={{'n': 5}}); print(result.output)"
    )
    assert ended.printed.strip().endswith("10"), ended
