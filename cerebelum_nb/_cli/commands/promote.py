"""``cerebelum promote``: make a module of a notebook's workflow, and prove that it is the code that ran."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from ..._promote.promote import Promoted, PromotionError
from ..._promote.promote import promote as write
from ..._promote.proof import Proof, Proven
from ..._text.text import counted
from ..app import Exit, Failure, log_options, log_path, open_log, print_json
from ..echo import paint

__all__ = ["promote"]


@click.command()
@click.argument("notebook", metavar="NOTEBOOK", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("module", metavar="MODULE.py", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--workflow", metavar="NAME", help="Only this workflow, and what it needs. By default all of the notebook."
)
@click.option(
    "--tests", is_flag=True, help="Also write tests from recorded runs: tests/test_MODULE.py, tests/histories."
)
@click.option("--runs", metavar="N", type=click.IntRange(1), default=5, help="Compare the newest N runs (5).")
@click.option(
    "--pure",
    metavar="STEP",
    multiple=True,
    help="A step that only computes: it is run on what recorded runs gave it. Can be repeated; 'all' means each step "
    "without an external effect.",
)
@click.option("--force", is_flag=True, help="Write it despite the problems found, and over an existing file.")
@click.option("--json", "json_", is_flag=True, help="One object: path, tests, notes, problems, proofs.")
@log_options
@click.pass_context
def promote(
    ctx: click.Context,
    notebook: Path,
    module: Path,
    workflow: str | None,
    tests: bool,
    runs: int,
    pure: tuple[str, ...],
    force: bool,
    json_: bool,
) -> None:
    """Make a module of a notebook's workflow, and prove it.

    MODULE.py gets what the workflows need, in order: imports, functions, constants, comments; of a function that was
    fixed, the last version. If something cannot be in a module (steps that read what the notebook computes, magics in
    steps, secrets), it is listed and nothing is written.

    Then recorded runs are compared with it: is the code of each step the code that ran, can each run be resumed with
    it, and do the steps given as --pure return the same results? Exits with 1 if something differs.
    """
    store = open_log(ctx, read_only=not tests) if log_path(ctx).exists() else None
    try:
        made = write(notebook, module, store, workflow=workflow, runs=runs, pure=pure, tests=tests, force=force)
    except PromotionError as error:
        raise Failure(str(error), Exit.REFUSED) from error
    if json_:
        print_json(_as_data(made))
    else:
        _show(made, log_path(ctx))
    if not all(proof.holds for proof in made.proofs):
        ctx.exit(Exit.FAILED)


def _as_data(made: Promoted) -> dict[str, object]:
    return {
        "path": str(made.path),
        "tests": [str(path) for path in made.tests],
        "notes": made.draft.notes,
        "problems": made.draft.problems,
        "proofs": [{**asdict(proof), "holds": proof.holds} for proof in made.proofs],
    }


def _show(made: Promoted, log: Path) -> None:
    paint(f"{made.path}: {', '.join(made.draft.workflows)}")
    for note in made.draft.notes:
        paint(f"  {note}", "dim")
    for problem in made.draft.problems:
        paint(f"  ! {problem}", "yellow")
    if not made.proofs:
        paint(f"nothing is proved: there is no log at {log}. Name it with --db FILE", "yellow")
    for proof in made.proofs:
        _show_proof(proof)
    for path in made.tests:
        paint(str(path))
    if made.tests:
        paint(f"run them: python -m pytest {made.tests[0]}", "dim")


def _show_proof(proof: Proof) -> None:
    paint("")
    if not proof.histories:
        paint(f"{proof.workflow}: nothing is proved, as the log has no run of it", "yellow")
        return
    runs = counted(len(proof.histories), "recorded run")
    paint(f"{proof.workflow}: {proof.accepted} of {runs} could be resumed with it")
    width = max(len(proven.step) for proven in proof.steps)
    for proven in proof.steps:
        sign, code = {True: ("✓", "the code that ran"), False: ("✗", "other code"), None: ("·", "no run completed it")}[
            proven.same
        ]
        paint(f"  {sign} {proven.step:<{width}}  {code:<19}  {_results(proven)}".rstrip(), "" if sign != "✗" else "red")
        if proven.why:
            paint(f"    {proven.why}", "dim")
    for history in proof.histories:
        if history.refused:
            paint(f"  ✗ {history.execution_id}: {history.refused}", "red")


def _results(proven: Proven) -> str:
    if proven.tried:
        return f"{proven.as_recorded} of {counted(proven.tried, 'result')} as recorded"
    return "not run: an external effect" if proven.external else "not run"
