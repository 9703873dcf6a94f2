"""The benchmarks run and give their figures. No test checks how large a figure is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import NAMES, ON_DEMAND, measure
from benchmarks.measure import Figure, Settings, compare
from benchmarks.peers.taken import taken
from benchmarks.report import markdown

QUICK = ("plan", "constant", "concurrency", "imports", "turns")
"""The others take longer than 5 s each, also with tiny sizes: `.ci/full` runs them."""


@pytest.mark.process
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in QUICK else pytest.mark.soak) for name in NAMES if name not in ON_DEMAND],
)
def test_a_benchmark_gives_its_figures(name: str, tmp_path: Path) -> None:
    figures = measure(name, Settings(directory=tmp_path, repeat=1, scale=0.01))
    assert figures
    assert all(figure.benchmark == name and figure.value >= 0 for figure in figures)
    assert len(markdown(figures).splitlines()) == 2 + len(figures)
    exact = {figure.name: figure.meets for figure in figures if figure.target_is == "exactly"}
    assert all(exact.values()), exact  # counts are the same at any size
    assert len(exact) == {"sequential": 2, "imports": 1}.get(name, 0)


@pytest.mark.soak
@pytest.mark.process
def test_the_benchmark_of_a_cluster_gives_its_figures(tmp_path: Path) -> None:
    pytest.importorskip("temporalio", reason="temporalio is not installed (extra [temporal])")
    assert len(measure("distributed", Settings(directory=tmp_path, repeat=1, scale=0.01))) == 15


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc, which only Linux has")
def test_the_time_of_a_block_includes_the_processes_it_started() -> None:
    work = "import time; held = bytearray(4 * 10**7)\nwhile time.process_time() < 0.1: pass\nprint(flush=True); input()"
    found: dict[str, float] = {}
    with taken(found, "block"):
        child = subprocess.Popen([sys.executable, "-c", work], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert child.stdout
        child.stdout.readline()
    child.communicate(b"\n")
    assert found["block CPU"] >= 0.08  # it counts ticks of 0.01 s, user's and system's each rounded down
    assert found["block memory"] > 40_000_000


def test_a_comparison_is_the_ratio_of_the_medians_in_either_order() -> None:
    def figure(target_is: str) -> Figure:
        return compare(
            "b",
            "n",
            [1.0, 2.0, 9.0],
            [4.0, 4.0, 4.0],
            target=2.0,
            target_is=target_is,  # type: ignore[arg-type]  # one of the two
            detail=lambda a, b: f"{a} and {b}",
        )

    assert (figure("at most").value, figure("at most").meets, figure("at most").detail) == (0.5, True, "2.0 and 4.0")
    assert (figure("at least").value, figure("at least").meets) == (2.0, True)
    assert figure("at most").spread == (0.25, 2.25)
