"""``cerebelum demo`` in a process, with its output piped."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from cerebelum_nb._cli import main

COMMAND = [sys.executable, "-m", "cerebelum_nb", "demo"]


@pytest.mark.kernel
def test_the_demo_fails_is_fixed_continues_and_says_where_the_log_is(tmp_path: Path) -> None:
    environment = os.environ | {"CEREBELUM_DB": str(tmp_path / "someone-elses.db"), "COLUMNS": "80"}
    done = subprocess.run(
        [*COMMAND, "--dir", str(tmp_path / "here")],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no such column: author" in done.stdout
    assert "started 1 time" in done.stdout
    assert str(tmp_path / "here" / ".cerebelum" / "history.db") in done.stdout
    assert (tmp_path / "here" / ".cerebelum" / "history.db").exists()
    assert not (tmp_path / "someone-elses.db").exists()
    assert "\x1b" not in done.stdout
    lines = [line.rstrip() for line in done.stdout.splitlines()]  # rich 13.0 pads some of them
    assert [line for line in lines if len(line) > 80 and str(tmp_path) not in line] == []


@pytest.mark.kernel
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
def test_stopped_half_way_it_leaves_no_server_behind(tmp_path: Path) -> None:
    demo = subprocess.Popen([*COMMAND, "--dir", str(tmp_path)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    log = tmp_path / "quotes-service" / "server.log"
    wait_until(lambda: log.exists() and "server started" in log.read_text())
    demo.send_signal(signal.SIGINT)
    _, errors = demo.communicate(timeout=120)
    assert demo.returncode != 0
    assert b"Traceback" not in errors
    port = json.loads((log.parent / "config.json").read_text())["port"]
    wait_until(lambda: not listens(port))


def test_a_notebook_that_exists_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "01_deploy_a_service.ipynb").write_text("mine")
    result = CliRunner().invoke(main, ["demo", "--dir", str(tmp_path)])
    assert result.exit_code == 1
    assert "already exists" in result.output
    assert (tmp_path / "01_deploy_a_service.ipynb").read_text() == "mine"


def test_without_a_kernel_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = CliRunner().invoke(main, ["demo"])
    assert result.exit_code == 1
    assert re.search(r'^ +pip install "cerebelum_nb\[notebook\]"$', result.output, re.MULTILINE)


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(2400):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail("waited for two minutes in vain")
