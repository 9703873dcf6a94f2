"""The reference matches the command line, completion offers what the log holds, and listing loads nothing slow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

from cerebelum_nb._cli import main
from cerebelum_nb._cli.app import EXITS, Exit
from cerebelum_nb._cli.reference import reference

from ..programs import run
from .conftest import environment

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
NAMES = main.list_commands(click.Context(main, **main.context_settings))


def test_docs_cli_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == reference(), "python -m cerebelum_nb._cli.reference > docs/cli.md"


@pytest.mark.parametrize("name", NAMES)
def test_every_command_and_option_has_a_help(name):
    context = click.Context(main, **main.context_settings)
    command = main.get_command(context, name)
    assert command.name == name
    assert command.help
    assert [p.name for p in command.params if isinstance(p, click.Option) and not p.help] == []
    assert f"## cerebelum {name}\n" in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_the_list_of_commands_gives_the_first_line_of_each_help_whole_in_80_columns(name, call):
    line = next(line for line in call("-h", columns=80).out.splitlines() if line.split()[:1] == [name])
    command = main.get_command(click.Context(main, **main.context_settings), name)
    assert line.split(maxsplit=1)[1] == command.get_short_help_str(limit=200)


def test_every_exit_code_is_documented():
    assert set(EXITS) == set(Exit)


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("cerebelum status do", {"done-1", "done-2"}),
        ("cerebelum resume ", {"failed-1", "asking-1", "asleep-1", "paused-1", "died-1"}),
        ("cerebelum list --workflow r", {"rollout"}),
        ("cerebelum list --status wai", {"waiting_for_approval", "waiting_for_signal", "waiting_for_child"}),
        ("cerebelum events done-1 --type stepf", {"StepFailed"}),
        ("cerebelum status --db none.db ", set()),
    ],
)
def test_the_shell_completes(folder, words, offered):
    more = {"_CEREBELUM_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    code = "from cerebelum_nb._cli import main; main(prog_name='cerebelum')"
    done = run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        env=environment(**more),
        check=False,
    )
    assert {line.partition(",")[2] for line in done.stdout.splitlines() if line} == offered
    assert done.stderr == ""


@pytest.mark.parametrize("command", ["list", "status done-1", "events done-1", "active"])
def test_reading_loads_nothing_slow(folder, command):
    code = (
        "import sys\nfrom cerebelum_nb._cli import main\n"
        f"try: main({command.split()!r})\nexcept SystemExit: pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=True)
    loaded = set(done.stderr.split())
    slow = {"pandas", "numpy", "IPython", "ipywidgets", "sqlite_utils", "rich", "cloudpickle"}
    assert (
        loaded & (slow | {"cerebelum_nb._engine.loop", "cerebelum_nb._engine.execution", "cerebelum_nb._dsl.step"})
        == set()
    )
