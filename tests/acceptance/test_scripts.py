"""A script that fails or is stopped with Ctrl-C: what its terminal shows, and how it is resumed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ..programs import Popen, run

SCRIPT = """
import asyncio, os, sys, time
from cerebelum_nb import step, workflow

@step
def build():
    return 1

@step
async def ship(build):
    if os.environ.get("SLOW"):
        print("shipping", flush=True)
        await asyncio.sleep(60)
    if not os.path.exists("room"):
        raise ValueError("no room")
    return "shipped"

@workflow
def deploy(wf):
    wf.timeline(build >> ship)

def main():
    print(eval(sys.argv[1]).output)

if __name__ == "__main__":
    main()
"""


@pytest.fixture
def script(tmp_path: Path):
    (tmp_path / "dep.py").write_text(SCRIPT)

    def start(call: str, **more: str) -> subprocess.Popen[str]:
        return Popen(
            [sys.executable, "-W", "error", "dep.py", call],
            cwd=tmp_path,
            env={**os.environ, **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, re.sub(r"\b[a-z][a-z0-9]{9}\b(?=[\"\s])", "ID", err)


def test_a_failure_shows_the_script_s_own_frames_and_how_to_go_on(script) -> None:
    code, _, told = ended(script("deploy.run()"))
    assert code == 1
    assert set(re.findall(r'File "([^"]+)"', told)) == {"<string>", *re.findall(r'File "([^"]+dep.py)"', told)}
    assert re.sub(r"line \d+, or", "line 7, or", told).endswith(
        "1 of 2 steps are finished and kept. Fix 'ship' (it continues at line 7, or with rerun=[\"ship\"] at its top), "
        "then:\n\n"
        "    cerebelum resume ID    # in a terminal; the same in Python:\n"
        '    deploy.resume_sync("ID")\n'
    )


def test_it_is_resumed_from_a_script(script, tmp_path: Path) -> None:
    ended(script("deploy.run()"))
    (tmp_path / "room").touch()
    assert ended(script("deploy.resume_sync()"))[:2] == (0, "shipped\n")


def test_it_forks_and_sweeps_from_a_script(script, tmp_path: Path) -> None:
    (tmp_path / "room").touch()
    ended(script("deploy.run(execution_id='k1')"))
    assert ended(script("deploy.fork_sync('k1', ship)"))[:2] == (0, "shipped\n")
    assert ended(script("deploy.sweep_sync(build, [{'build': 1}, {'build': 2}])"))[1].count("shipped") == 2


def test_it_is_resumed_by_the_command_that_was_shown(script, tmp_path: Path) -> None:
    _, _, told = ended(script("deploy.run(execution_id='k-1')"))
    (command,) = re.findall(r"    cerebelum (resume .*) #", told)
    (tmp_path / "room").touch()
    done = run([sys.executable, "-m", "cerebelum_nb", *command.split()], cwd=tmp_path)
    assert done.returncode == 0


def test_ctrl_c_leaves_one_message_and_the_exit_code_of_an_interrupt(script) -> None:
    process = script("deploy.run()", SLOW="1")
    assert process.stdout.readline() == "shipping\n"
    process.send_signal(signal.SIGINT)
    code, _, told = ended(process)
    assert code == -signal.SIGINT  # a shell shows 130
    assert "Traceback" not in told and "cerebelum_nb" not in told
    assert re.fullmatch(
        r"\nexecution \w+ of workflow 'deploy' is paused: stopped by hand. 1 of 2 .*\n", told, re.DOTALL
    )
    assert told.endswith('    deploy.resume_sync("ID")\n')


def test_an_unknown_id_is_reported_without_frames_of_the_library(script) -> None:
    code, _, told = ended(script("deploy.resume_sync('nope')"))
    assert code == 1
    assert "engine/" not in told and told.endswith("List what there is with `cerebelum list`.\n")


def test_in_async_code_the_error_says_to_await(script) -> None:
    _, _, told = ended(script("asyncio.run(deploy.execute())"))
    assert told.endswith('    await deploy.resume("ID")\n')
