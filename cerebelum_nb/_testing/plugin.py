"""The pytest plugin: the fixture ``workflows``, and tests that crash after every event.

pytest loads it in every project that has this package installed, so it imports nothing of ours until a test needs it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import pytest
from _pytest.runner import runtestprotocol

if TYPE_CHECKING:
    from .every_crash import Place, Visit
    from .workflows import Workflows

__all__ = ["workflows"]

_AFTER, _BEFORE = "crash_after_every_event", "crash_before_every_event"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("cerebelum", "workflows of cerebelum_nb")
    group.addoption("--cerebelum-real-time", action="store_true", help="the fixture `workflows` lets time really pass")
    group.addoption(
        "--cerebelum-crash",
        type=int,
        metavar="N",
        help="of tests that crash after every event, run only the Nth crash (0: without one)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marks."""
    text = "run the test once without a crash, then once for each commit of its workflows, crashing"
    config.addinivalue_line("markers", f"{_AFTER}(repeat=()): {text} after it")
    config.addinivalue_line("markers", f"{_BEFORE}(repeat=()): {text} before it, when its events have happened")


@pytest.fixture
def workflows(request: pytest.FixtureRequest) -> Iterator[Workflows]:
    """Runs of workflows on a fake clock, with a log in memory; fresh for each test."""
    from .workflows import Workflows

    with Workflows(real_time=request.config.getoption("--cerebelum-real-time")) as made:
        yield made


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run a marked test once for each crash, with fresh fixtures; it is reported as one test."""
    mark = item.get_closest_marker(_AFTER) or item.get_closest_marker(_BEFORE)
    if mark is None:
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    try:
        reports = _visits(item, before=mark.name == _BEFORE, repeat=_repeat(mark))
    except _MarkError as error:
        reports = [_report(item, "setup", error)]
    end = pytest.CallInfo.from_call(partial(item.session._setupstate.teardown_exact, nextitem), "teardown")
    if end.excinfo is not None:
        reports.append(item.ihook.pytest_runtest_makereport(item=item, call=end))
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


class _MarkError(Exception):
    """A mark or an option is invalid."""


def _repeat(mark: pytest.Mark) -> list[str]:
    """Return the steps that may repeat their external effect."""
    if mark.args or mark.kwargs.keys() - {"repeat"}:
        raise _MarkError(
            f"@pytest.mark.{mark.name} takes no arguments but repeat=[...], the steps whose external effect may happen "
            f"twice. Call workflows.run(...) in the test, and check there what you expect"
        )
    repeat = mark.kwargs.get("repeat", ())
    if isinstance(repeat, str):
        repeat = (repeat,)
    return [getattr(step, "name", step) for step in repeat]


def _visits(item: pytest.Item, *, before: bool, repeat: list[str]) -> list[pytest.TestReport]:
    """Run the test without a crash and with each crash; return the reports of one test."""
    from .every_crash import Visit, places

    only = item.config.getoption("--cerebelum-crash")
    first = Visit(repeat=repeat)
    reports = _run(item, first)
    if any(not report.passed for report in reports) or only == 0:
        return reports
    found = places(first, before=before)
    if not found:
        raise _MarkError(
            "this test should crash after every event, but it ran no workflow: call workflows.run(...) in it"
        )
    if only is not None and not 1 <= only <= len(found):
        raise _MarkError(f"--cerebelum-crash {only}: this test has {len(found)} crashes, which are numbered from 1")
    failed: list[tuple[int, Place, list[pytest.TestReport]]] = []
    for number, place in enumerate(found, start=1):
        if only in (None, number):
            visit = Visit(place, repeat)
            again = _run(item, visit)
            _add_durations(reports, again)
            if any(not report.passed for report in again):
                failed.append((number, place, again))
    if not failed:
        reports[1].sections.append(("crashes", f"{len(found)} crashes, each as without one"))
        return reports
    number, place, again = failed[0]
    lines = [f"it crashed {place}, and was resumed", f"alone: pytest '{item.nodeid}' --cerebelum-crash {number}"]
    if len(failed) > 1:
        lines.append(f"{len(failed)} of {len(found)} crashes fail: {', '.join(str(n) for n, *_ in failed)}")
    for report in again:
        if not report.passed:
            report.sections.insert(0, (f"crash {number} of {len(found)}", "\n".join(lines)))
    return again


def _run(item: pytest.Item, visit: Visit) -> list[pytest.TestReport]:
    """Run the test once with its fixtures; keep the fixtures of its module and above for the next visit."""
    parent: Any = item.parent  # as nextitem, it tears down the test's own fixtures only
    with visit.active():
        return runtestprotocol(item, log=False, nextitem=parent)


def _add_durations(reports: list[pytest.TestReport], again: list[pytest.TestReport]) -> None:
    for report, other in zip(reports, again, strict=False):
        report.duration += other.duration


def _report(item: pytest.Item, when: Literal["setup", "call", "teardown"], error: Exception) -> pytest.TestReport:
    return pytest.TestReport(item.nodeid, item.location, dict.fromkeys(item.keywords, 1), "failed", str(error), when)
