"""A picture that is the last line of a cell is shown once: without pyplot, with the inline backend, on its own axes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .live import LiveKernel, live_kernel

SETUP = """
from cerebelum_nb import connect, history, step, workflow
log = connect("log.db")
@step
def build():
    return 1
@workflow
def release(wf):
    wf.timeline(build)
_ = release.run(execution_id="r1")
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveKernel]:
    with live_kernel(tmp_path_factory.mktemp("pictures")) as kernel:
        assert kernel.run(SETUP).ok
        yield kernel


def pictures(kernel: LiveKernel, source: str) -> int:
    cell = kernel.run(source)
    assert cell.ok, cell.error
    return sum("image/png" in data for data in cell.shown)


@pytest.mark.parametrize("before", ["", "%matplotlib inline\n"])
@pytest.mark.parametrize(
    "source",
    [
        'history.plot("r1")',
        'ax = history.plot("r1"); _ = ax.set_title("mine")\nax',
        'ax = history.plot("r1")\nax.figure',
        'import matplotlib.pyplot as plt\nfig, ax = plt.subplots()\nhistory.plot("r1", ax=ax)',
    ],
    ids=["axes", "restyled", "figure", "pyplot"],
)
def test_it_is_shown_once(kernel: LiveKernel, before: str, source: str) -> None:
    assert pictures(kernel, before + source) == 1


def test_it_is_not_shown_if_it_is_not_the_last_line(kernel: LiveKernel) -> None:
    assert pictures(kernel, 'ax = history.plot("r1")') == 0


def test_the_slider_of_a_run_and_of_its_result(kernel: LiveKernel) -> None:
    shown = kernel.run("run = release.start()\nresult = await run\nrun.slider()").shown[-1]
    assert shown["text/plain"].startswith("release: 4 events")
    assert "<script>" in shown["text/html"]
    assert kernel.run("result.slider()").shown[-1] == shown
    assert kernel.run("history.slider(result.execution_id)").shown[-1] == shown
