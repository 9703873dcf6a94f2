"""A random step whose process is killed again and again does the same as one that is not killed."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from .killed import program

ROOT = Path(__file__).parents[2]
SEEDS = [seed for seed in range(100, 140) if "async for" not in program(seed)]


def run(folder, seed, last):
    """Run a program in another process; return its exit status."""
    environment = {**os.environ, "XDG_STATE_HOME": str(folder / "state"), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", "tests.checkpoint.killed", str(folder), str(seed), str(last)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=120, check=False)
    assert done.returncode in (0, -9), done.stderr.decode()
    return done.returncode


@pytest.mark.soak
@pytest.mark.process
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", random.Random(1).sample(SEEDS, 5))
def test_a_step_that_is_killed_again_and_again_does_the_same(tmp_path, seed):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    assert run(whole, seed, 0) == 0
    kills = 0
    while run(parts, seed, kills + 1) != 0:  # each time behind one more wait: those of before are waited for no more
        kills += 1
    effects = (parts / "effects").read_text()
    assert effects.count("'top'") == 1, "it started at its top: take another seed"
    assert (parts / "result").read_text() == (whole / "result").read_text()
    assert effects == (whole / "effects").read_text()
