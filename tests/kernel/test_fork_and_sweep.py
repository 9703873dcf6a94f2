"""Forks, sweeps and trials in a real kernel: run in a cell, stopped there, and continued."""

from __future__ import annotations

from .live import LiveKernel

SETUP = """
import asyncio
from cerebelum_nb import history, step, workflow

hold = False

@step
def load():
    print("loading", flush=True)
    return 10

@step
def rate():
    return 0.1

@step
async def train(load, rate):
    print(f"training at {rate}", flush=True)
    if hold and rate > 0.2:
        await asyncio.sleep(60)
    return rate * load

@workflow
def fit(wf):
    wf.timeline(load >> rate >> train)

rates = [{"rate": 0.1}, {"rate": 0.2}, {"rate": 0.3}, {"rate": 0.4}]
"""


def shown(cell) -> str:
    assert cell.ok, cell.error
    return str(cell.shown[-1]["text/plain"])


def test_a_fork_in_a_cell_says_where_it_comes_from(kernel: LiveKernel) -> None:
    assert kernel.run("await fit.execute(execution_id='k1');").ok
    assert "its result is given" in shown(kernel.run("fit.plan_fork('k1', overrides={rate: 0.5})"))
    cell = kernel.run("await fit.fork('k1', overrides={rate: 0.5})")
    assert "loading" not in cell.printed
    assert "output 5.0" in shown(cell)
    assert "\nforked from k1 at event " in shown(cell) and "(before step 'rate')" in shown(cell)


def test_a_sweep_in_a_cell_is_stopped_and_continues(kernel: LiveKernel) -> None:
    assert kernel.run("hold = True").ok
    stopped = kernel.run("await fit.sweep(rate, rates)", interrupt_when="training at 0.3")
    assert "ExecutionStoppedError" in stopped.error
    assert 'await fit.sweep("rate", ..., execution_id="' in stopped.error
    assert kernel.run("hold = False").ok
    cell = kernel.run(
        "prefix = history.executions()['parent'].dropna().iloc[0]\n"
        "table = await fit.sweep(rate, rates, execution_id=prefix)\n"
        "table[['rate', 'state', 'output']]"
    )
    assert "training at 0.3" in cell.printed and "training at 0.1" not in cell.printed
    assert "loading" not in cell.printed
    assert shown(cell).count("COMPLETED") == 4


def test_a_sweep_over_the_same_prefix_makes_nothing_twice(kernel: LiveKernel) -> None:
    assert kernel.run("table = await fit.sweep(rate, rates[:2])").ok
    cell = kernel.run("prefix = history.executions()['parent'].dropna().iloc[0]\n" + SETUP)
    assert cell.ok
    cell = kernel.run("again = await fit.sweep(rate, rates[:2], execution_id=prefix)\nlist(again.output)")
    assert "training" not in cell.printed
    assert shown(cell) == "[1.0, 2.0]"


def test_a_trial_in_a_cell_needs_no_await_and_is_stopped_by_the_button(kernel: LiveKernel) -> None:
    assert kernel.run("await fit.execute()").ok
    assert kernel.run("@step\nasync def train(load, rate):\n    await asyncio.sleep(0)\n    return 7").ok
    assert shown(kernel.run("history.try_step(train).new.tolist()")) == "['7']"
    edited = "@step\nasync def train(load, rate):\n    print('trying', flush=True)\n    await asyncio.sleep(60)"
    assert kernel.run(edited).ok
    stopped = kernel.run("history.try_step(train)", interrupt_when="trying")
    assert "KeyboardInterrupt" in stopped.error
    assert kernel.run("1").ok
