"""Starting the dashboard: where the token is kept; and opening it shows the token to nobody."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cerebelum_nb._web.serving import token_of
from cerebelum_nb.errors import CerebelumError

from ..browser.lab import ROOT
from ..waiting import wait_for


def test_a_token_is_new_at_each_start():
    assert token_of(None) != token_of(None)


def test_a_token_that_is_kept_in_a_file_is_the_same_at_the_next_start(tmp_path):
    file = tmp_path / "token"
    token = token_of(file)
    assert token_of(file) == token == file.read_text().strip()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("text", "mode", "why"), [("x" * 20, 0o644, "other users can read"), ("short", 0o600, "no token")]
)
def test_an_unsafe_or_invalid_token_file_is_refused(tmp_path, text, mode, why):
    file = tmp_path / "token"
    file.write_text(text)
    file.chmod(mode)
    with pytest.raises(CerebelumError, match=why):
        token_of(file)


@pytest.mark.process
def test_the_browser_is_started_without_the_token_in_its_command(made, tmp_path):
    """Everybody on a machine can read the command lines of its processes."""
    opener, opened = tmp_path / "xdg-open", tmp_path / "opened"
    opener.write_text(f'#!/bin/sh\necho "$1" > {opened}.part && mv {opened}.part {opened}\n')
    opener.chmod(0o755)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = [sys.executable, "-m", "cerebelum_nb", "dashboard", str(made), "--port", "0", "--open"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        wait_for(opened.exists, "the browser is started")
        page = Path(opened.read_text().strip().removeprefix("file://"))
        assert "token" not in str(page) and address in page.read_text()
        assert stat.S_IMODE(page.parent.stat().st_mode) == 0o700
        process.terminate()
    assert not page.parent.exists()
