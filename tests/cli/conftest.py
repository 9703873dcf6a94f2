"""A log with an execution in every state, calls of the command line in this process and in others, and a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import termios
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from cerebelum_nb._cli import main

from ..programs import Popen, run
from ..waiting import wait_for

HERE = Path(__file__).parent
LOG = Path(".cerebelum", "history.db")
CEREBELUM = (sys.executable, "-W", "error", "-m", "cerebelum_nb")
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """The folder of a log that no test writes to.

    The executions were started in another folder, so their code is found in the folder of the command.
    """
    folder = tmp_path_factory.mktemp("shop")
    for name in ("shop.py", "make.py"):
        shutil.copy(HERE / name, folder)
    (folder / "dies").touch()
    run([sys.executable, "-W", "error", "make.py"], cwd=folder, check=True, env=environment())
    (folder / "dies").unlink()
    return folder.rename(folder.with_name("moved-shop"))


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    """A copy of that folder, as the working directory."""
    copy = tmp_path / "shop"
    shutil.copytree(made, copy)
    monkeypatch.chdir(copy)
    return copy


def environment(**more):
    kept = {name: value for name, value in os.environ.items() if name not in ("CEREBELUM_DB", "COLUMNS", "NO_COLOR")}
    return {**kept, "PYTHONPATH": str(HERE.parents[1]), "TERM": "xterm-256color", **more}


@pytest.fixture
def call(folder, monkeypatch):
    """Call the command line in this process; its output is not a terminal."""
    monkeypatch.delenv("CEREBELUM_DB", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)

    def run(*arguments, columns=None):
        if columns is not None:
            monkeypatch.setenv("COLUMNS", str(columns))
        result = CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="cerebelum")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Done(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def spawn(folder):
    """Call it in its own process."""

    def start(*arguments, **more):
        done = run([*CEREBELUM, *map(str, arguments)], capture_output=True, text=True, env=environment(**more))
        return Done(done.returncode, done.stdout, done.stderr)

    return start


class Terminal:
    """A command in a terminal of a given size, and its output."""

    def __init__(self, *arguments, columns=80, lines=24, **more):
        self._master, slave = pty.openpty()
        self.resize(columns, lines)
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), slave)
        self.process = Popen([*CEREBELUM, *arguments], **streams, env=environment(**more), start_new_session=True)
        os.close(slave)
        self.raw = ""

    def resize(self, columns, lines):
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, text):
        os.write(self._master, text.encode())

    def wait_for(self, text, seconds=120):
        """Read until this text comes; return what was read, without escapes."""
        began, end = len(self.raw), time.monotonic() + seconds
        while text not in _ESCAPES.sub("", self.raw[began:]):
            assert self._read(end), f"{text!r} was not written, but\n{self.raw[-2000:]!r}"
        return _ESCAPES.sub("", self.raw[began:])

    def interrupt(self, until):
        """Press Ctrl-C until this text comes: readline misses one that arrives just before it waits for a key."""
        for _ in range(20):
            self.type("\x03")
            with suppress(AssertionError):
                return self.wait_for(until, seconds=3)
        self.type("\x03")
        return self.wait_for(until)

    def end(self, seconds=120):
        """Read to the end and return the exit code."""
        until = time.monotonic() + seconds
        while self._read(until):
            pass
        os.close(self._master)
        return self.process.wait(seconds)

    @property
    def left_behind(self):
        """The output after the alternate screen."""
        return _ESCAPES.sub("", self.raw.rpartition("\x1b[?1049l")[2]).replace("\r\n", "\n")

    def frames(self):
        """The pictures that were drawn, each as lines."""
        drawn = self.raw.partition("\x1b[?1049l")[0].split("\x1b[H")[1:]
        return [_ESCAPES.sub("", frame).split("\r\n") for frame in drawn]

    def _read(self, until):
        ready, _, _ = select.select([self._master], [], [], max(0.0, until - time.monotonic()))
        try:
            found = os.read(self._master, 65536) if ready else b""
        except OSError:  # how Linux says that the other end is closed
            found = b""
        self.raw += found.decode()
        return bool(found)


@pytest.fixture
def terminal(folder):
    """Open terminals; a command that still runs at the end is killed."""
    opened = []

    def start(*arguments, **more):
        opened.append(Terminal(*arguments, **more))
        return opened[-1]

    yield start
    for one in opened:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


@pytest.fixture
def moving(folder):
    """Another process that runs ``moving-1`` until the file ``arrived`` is there."""
    code = "import shop; print('imported', flush=True); shop.move.run(execution_id='moving-1')"
    child = Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment(), text=True)
    assert child.stdout.readline() == "imported\n"
    wait_for(lambda: "moving-1" in rows("executions", "current_step = 'copy'"), "it copies")
    yield child
    child.kill()
    child.communicate()


def rows(table, where):
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(LOG)) as db:
        return [found for (found,) in db.execute(f"SELECT execution_id FROM {table} WHERE {where}")]


@pytest.fixture
def piped(folder):
    """Start commands that write into a pipe; they are killed at the end of the test."""
    started = []

    def start(*arguments, **more):
        started.append(Popen([*CEREBELUM, *arguments], stdout=subprocess.PIPE, env=environment(), text=True, **more))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()
