"""What every test may rely on, and the marks that say what a test needs."""

from __future__ import annotations

import atexit
import compileall
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

TESTS = Path(__file__).parent
NEEDS = {
    "acceptance": "process",
    "browser": "browser",
    "cli": "process",
    "docs": "process",
    "kernel": "kernel",
}
"""What all tests of a folder need; a file or a test elsewhere that needs it carries the mark itself."""

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that runs the suite in the background leaves Ctrl-C ignored, also in the processes which tests start and
    # press it in.
    signal.signal(signal.SIGINT, signal.default_int_handler)


# An example takes as long as the machine is busy; a test that hangs meets the time limit of every test. Few examples
# in every run find what is broken now; `.ci/full` looks for rarer things with --hypothesis-profile=thorough.
for name, examples in (("suite", 15), ("thorough", 400)):
    settings.register_profile(name, max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


def _state_of_its_own() -> None:
    """Keep the ids of the tests' logs out of the user's state folder, here and in every process that tests start."""
    folder = tempfile.TemporaryDirectory(prefix="cerebelum-state-")
    atexit.register(folder.cleanup)
    os.environ["XDG_STATE_HOME"] = folder.name


def _logs_in_memory() -> None:
    """Put the tests' folders where a commit need not wait for a disk, if there is such a place with enough room."""
    memory = "/dev/shm"
    if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 4 << 30:
        os.environ.setdefault("TMPDIR", memory)
        tempfile.tempdir = None  # it is asked for again


_logs_in_memory()
_state_of_its_own()


def pytest_configure(config: pytest.Config) -> None:
    """Compile the package once, for the hundreds of processes that tests start.

    Where PYTHONDONTWRITEBYTECODE is set, each of them would compile it.
    """
    if not hasattr(config, "workerinput"):
        compileall.compile_dir(TESTS.parent / "cerebelum_nb", quiet=2)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Say how a process of pytest-xdist ended that should not have."""
    if error:
        status = node.gateway._io.popen.wait(timeout=30)
        print(f"\n{node.gateway.id} ended with status {status}", file=sys.stderr)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out a folder that ``-m`` leaves out as a whole: what its files import takes seconds."""
    need = NEEDS.get(collection_path.name) if collection_path.parent == TESTS else None
    return True if need is not None and f"not {need}" in config.option.markexpr else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark each test with what its folder says it needs; leave out soak tests unless ``-m`` asks for them."""
    for item in items:
        need = NEEDS.get(item.path.relative_to(TESTS).parts[0])
        if need is not None:
            item.add_marker(need)
    if "soak" not in config.option.markexpr:  # not in addopts: a second -m would replace it
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("soak")])
        items[:] = [item for item in items if not item.get_closest_marker("soak")]


_is_pure = False
"""Whether the test that runs now says that it needs nothing but this process."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Know whether the running test may start a process."""
    global _is_pure
    _is_pure = not any(item.get_closest_marker(need) for need in ("process", "kernel", "browser"))
    try:
        return (yield)
    finally:
        _is_pure = False


def _refuse_processes(event: str, arguments: tuple[Any, ...]) -> None:
    """Keep the marks true: a test without one does not start a process.

    Matplotlib asks fc-list for the fonts when it is imported for the first time on a machine.
    """
    if _is_pure and event in ("os.fork", "os.forkpty", "os.posix_spawn", "subprocess.Popen"):
        if event == "subprocess.Popen" and "fc-list" in str(arguments[:2]):
            return
        raise AssertionError(f"this test starts a process ({event}): mark it pytest.mark.process, kernel or browser")


sys.addaudithook(_refuse_processes)
