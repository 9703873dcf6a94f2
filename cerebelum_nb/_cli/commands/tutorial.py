"""``cerebelum tutorial``: open, write and check the lessons, and show the progress of a class."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import click

from ..._text.terminal import styled
from ..app import Exit, Failure, debug_option
from ..echo import emit, paint
from ..roster import show_roster
from ..screen import interval_option

__all__ = ["tutorial"]

_FOLDER = Path("cerebelum-tutorial")


@click.command()
@click.argument("what", metavar="[N|list|write|check|roster]", default="1")
@click.argument("logs", metavar="[LOG]...", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--dir",
    "directory",
    metavar="D",
    type=click.Path(file_okay=False, path_type=Path),
    default=_FOLDER,
    help=f"Where to put the notebook; by default the folder {_FOLDER}.",
)
@click.option(
    "--lang",
    "language",
    metavar="L",
    default="en",
    envvar="CEREBELUM_LANG",
    help="The language of its texts and checks: en or es; by default $CEREBELUM_LANG, else en.",
)
@click.option("--no-browser", is_flag=True, help="Start JupyterLab without opening a browser: it prints its address.")
@click.option(
    "--pyodide", is_flag=True, help="With `write`: for JupyterLite, with a first cell that installs the package."
)
@click.option("--watch", is_flag=True, help="With `roster`: look again and again.")
@interval_option(2.0, "With `roster --watch`: how often to look")
@debug_option
@click.pass_context
def tutorial(
    ctx: click.Context,
    what: str,
    logs: tuple[Path, ...],
    directory: Path,
    language: str,
    no_browser: bool,
    pyodide: bool,
    watch: bool,
    interval: float,
) -> None:
    """Learn by doing, in lessons of ten minutes.

    `tutorial 1` puts the notebook of lesson 1 into a folder and opens it in JupyterLab; an existing one is opened
    unchanged. `tutorial list` lists the lessons; those with a letter are electives: `tutorial A`. `tutorial check
    LOG` repeats the checks of a lesson from its log, and exits with 1 if something is missing; without LOG it uses the
    lessons in the folder. `tutorial write` writes the notebooks of all lessons into the folder and opens none, for a
    server.

    `tutorial roster submissions` is for teachers: it shows how far each student is in each lesson, from the logs in a
    folder with one folder per student. With --watch it stays live.
    """
    os.environ["CEREBELUM_LANG"] = language  # for the checks, here and in the kernels
    if what == "list":
        _list()
    elif what == "write":
        _write(directory, language, is_for_pyodide=pyodide)
    elif what == "check":
        if not _check(logs, directory):
            ctx.exit(Exit.FAILED)
    elif what == "roster":
        if not logs:
            raise click.UsageError(
                "name the folder that the students' logs are in: cerebelum tutorial roster submissions"
            )
        show_roster(ctx, logs, interval if watch else None)
    elif logs:
        raise click.UsageError("a LOG is for `tutorial check LOG` and `tutorial roster LOG`")
    else:
        _open(what, directory, language, no_browser)


def _list() -> None:
    from ..._classroom.build import masters
    from ..._classroom.exercises import exercises_of
    from ..._classroom.language import say

    for number in masters():
        lesson = exercises_of(f"lesson-{number}")
        emit(f"{styled(str(number), 'bold')}  {say(lesson.title)}")
    paint(say("Open one with `cerebelum tutorial N`. Those with a letter are electives."), err=True)


def _write(directory: Path, language: str, *, is_for_pyodide: bool) -> None:
    """Write every lesson that exists in this language; keep notebooks that are already there."""
    from ..._classroom.build import file_name, languages, masters, write

    numbers = [number for number in masters() if language in languages(number)]
    if not numbers:
        raise click.UsageError(f"there are no lessons in {language!r}, but in: {', '.join(languages(1))}")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for number in numbers:
            path = directory / file_name(number, language)
            if not path.exists():
                write(number, path, language=language, is_for_pyodide=is_for_pyodide)
            emit(str(path))
    except OSError as error:
        raise Failure(f"cannot write to {directory}: {error.strerror}. Name another folder with --dir.") from error


def _open(what: str, directory: Path, language: str, no_browser: bool) -> None:
    from ..._classroom.build import file_name, languages, masters, write
    from ..._classroom.language import say

    numbers = list(masters())
    what = what.upper()
    if what not in numbers:
        raise click.UsageError(
            f"there is no lesson {what!r}: name one of {', '.join(numbers)}, or `list`, `check` or `roster`"
        )
    if language not in (known := languages(what)):
        raise click.UsageError(f"lesson {what} is not there in {language!r}, but in: {', '.join(known)}")
    path = directory / file_name(what, language)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            write(what, path, language=language)
    except OSError as error:
        raise Failure(f"cannot write to {directory}: {error.strerror}. Name another folder with --dir.") from error
    paint(say("The notebook is {path}", path=path))
    if find_spec("jupyterlab") is None:
        raise Failure(
            "There is no JupyterLab in this environment. Open the notebook in an editor that can run notebooks, or\n\n"
            '    pip install "cerebelum_nb[notebook]"'
        )
    # The notebook is not an argument: the addresses that JupyterLab prints would not lead to it.
    where = [f"--ServerApp.root_dir={path.parent.absolute()}", f"--LabApp.default_url=/lab/tree/{path.name}"]
    command = [sys.executable, "-m", "jupyterlab", *where, *(["--no-browser"] if no_browser else [])]
    sys.stdout.flush()
    if os.name == "nt":
        sys.exit(subprocess.call(command))
    os.execv(sys.executable, command)  # this process becomes JupyterLab, which handles Ctrl-C itself


def _check(logs: tuple[Path, ...], directory: Path) -> bool:
    """Print the results of each log; return whether all exercises are done."""
    from ..._classroom.evidence import Evidence
    from ..._classroom.grading import grade, lessons_in
    from ..._classroom.language import say

    found = logs or tuple(path for place in (directory, Path()) for path in sorted(place.glob("lesson-*")))
    if not found:
        raise Failure(f"there is no lesson in {directory} or here. Name its log: cerebelum tutorial check LOG")
    all_done = True
    for given in found:
        log = given / "history.db" if given.is_dir() else given
        with Evidence.of(log) as evidence:
            lessons = lessons_in(evidence)
        if not lessons:
            paint(say("{log}: no exercise was checked yet", log=log))
            all_done = False
        for lesson in lessons:
            score = grade(log, lesson)
            for verdict in score.verdicts.values():
                first, *rest = repr(verdict).splitlines()
                paint(first, "green" if verdict else "yellow")
                for line in rest:
                    paint(line)
            for finding in score.findings:
                paint(say("altered: {finding}", finding=finding), "red")
            paint(f"{lesson}: {score}", "bold")
            all_done = all_done and bool(score)
    return all_done
