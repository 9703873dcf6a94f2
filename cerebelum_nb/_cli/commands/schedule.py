"""``cerebelum schedule``: start workflows at certain times."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click

from ..._core.schedule import ScheduleState
from ..._text.recurrence import format_rule, in_zone
from ..._text.terminal import Cell, Column, table, width
from ..._text.times import timestamp
from ..._workflow.schedule import Schedule, coming_times, find_schedule, make_schedule, schedule_to_dict
from ...errors import InputsError
from ..app import Exit, Failure, log_options, open_log, print_json, write_command
from ..code import workflow_named
from ..echo import emit, paint
from .run import inputs_options, scheduler_for, value_of

__all__ = ["schedule"]


class _Group(click.Group):
    """A group that lists its commands in the order of this file."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=_Group)
def schedule() -> None:
    """Start a workflow at certain times.

    A schedule is stored in the log. A scheduler (`cerebelum scheduler`) starts an execution at each of its times, once,
    however many schedulers there are. An ID may be shortened to any unambiguous prefix.
    """


@schedule.command()
@click.argument("code", metavar="CODE[:WORKFLOW]")
@click.option("--cron", metavar="FIELDS", help="When: minute, hour, day, month, weekday, such as '0 6 * * 1-5'.")
@click.option("--every", metavar="D", help="Or the interval, such as '2 hours', counted from now.")
@click.option("--timezone", metavar="ZONE", default="UTC", help="The time zone of --cron, such as Europe/Madrid (UTC).")
@inputs_options
@click.option(
    "--overlap",
    type=click.Choice(["skip", "queue"]),
    default="skip",
    help="If the previous execution has not ended: start nothing, or queue behind it (skip).",
)
@click.option(
    "--catch-up",
    metavar="D",
    default="1h",
    help="How late an execution may still start if no scheduler was running; after that it is missed (1h).",
)
@click.option("--id", "schedule_id", metavar="ID", help="An id of your own; by default the workflow's name.")
@click.option("--json", "json_", is_flag=True, help="One object, as `schedule list --json` has them.")
@log_options
@click.pass_context
def add(
    ctx: click.Context,
    code: str,
    cron: str | None,
    every: str | None,
    timezone: str,
    values: Mapping[str, str],
    file: Mapping[str, Any],
    overlap: str,
    catch_up: str,
    schedule_id: str | None,
    json_: bool,
) -> None:
    """Make a schedule, or change the one with that id.

    CODE is a module, a .py file or an .ipynb notebook, as in `run`.
    """
    if (cron is None) == (every is None):
        raise click.UsageError("give either --cron '0 6 * * 1-5' or --every '2 hours'")
    workflow = workflow_named(code)
    inputs = {**file, **{name: value_of(workflow, name, text) for name, text in values.items()}}
    store = open_log(ctx, create=True)
    try:
        made = make_schedule(
            workflow,
            cron=cron,
            every=every,
            timezone=timezone,
            inputs=inputs,
            overlap=overlap,
            catch_up=catch_up,
            schedule_id=schedule_id,
            store=store,
        )
    except InputsError:
        raise
    except (TypeError, ValueError) as error:
        raise Failure(str(error), Exit.USAGE) from error
    if json_:
        print_json(schedule_to_dict(made.known))
        return
    _say(made.known)
    click.echo("A scheduler of this log starts it:")
    click.echo(f"    {write_command(ctx, scheduler_for(code))}")


@schedule.command("list")
@click.option("--json", "json_", is_flag=True, help="One object: schedules.")
@log_options
@click.pass_context
def list_(ctx: click.Context, json_: bool) -> None:
    """List the schedules of a log."""
    found = open_log(ctx).schedules()
    if json_:
        print_json({"schedules": [schedule_to_dict(state) for state in found]})
        return
    if not found:
        click.secho("no schedules yet: `cerebelum schedule add CODE:WORKFLOW --cron '0 6 * * *'`", err=True, dim=True)
        return
    for line in table(_COLUMNS, [_row(state) for state in found], width()):
        emit(line)


@schedule.command("next")
@click.argument("schedule_id", metavar="ID")
@click.option("-n", "--count", metavar="N", type=click.IntRange(1, 1000), default=5, help="How many (5).")
@click.option("--json", "json_", is_flag=True, help="One object: schedule_id, timezone, next (in UTC).")
@log_options
@click.pass_context
def next_(ctx: click.Context, schedule_id: str, count: int, json_: bool) -> None:
    """Show the coming times of a schedule, in its time zone."""
    state = find_schedule(schedule_id, open_log(ctx)).known
    times = coming_times(state, count)
    if json_:
        zone = state.definition.timezone
        print_json(
            {"schedule_id": state.schedule_id, "timezone": zone, "next": [timestamp(moment) for moment in times]}
        )
        return
    for moment in times:
        paint(in_zone(moment, state.definition.timezone))
    if state.state == "PAUSED":
        click.secho("it is paused: nothing starts before `schedule resume`", err=True, dim=True)


@schedule.command()
@click.argument("schedule_id", metavar="ID")
@log_options
@click.pass_context
def pause(ctx: click.Context, schedule_id: str) -> None:
    """Start nothing until it is resumed."""
    _change(ctx, schedule_id, Schedule.pause)


@schedule.command()
@click.argument("schedule_id", metavar="ID")
@log_options
@click.pass_context
def resume(ctx: click.Context, schedule_id: str) -> None:
    """Start executions again, beginning with the next time."""
    _change(ctx, schedule_id, Schedule.resume)


@schedule.command()
@click.argument("schedule_id", metavar="ID")
@log_options
@click.pass_context
def delete(ctx: click.Context, schedule_id: str) -> None:
    """Delete a schedule; the executions it started stay."""
    _change(ctx, schedule_id, Schedule.delete)


def _change(ctx: click.Context, schedule_id: str, how: Callable[[Schedule], object]) -> None:
    found = find_schedule(schedule_id, open_log(ctx))
    how(found)
    _say(found.known)


_TO_THE_MINUTE = len("Mon 2026-11-30 06:00")
_COLUMNS = (
    Column(title="ID", least=8),
    Column(title="WORKFLOW", least=8, drop=1),
    Column(title="STATE"),
    Column(title="NEXT"),
    Column(title="WHEN", least=12, drop=2),
    Column(title="LAST", least=8, drop=3),
    Column(title="WHY NOT", least=12, drop=4),
)


def _row(state: ScheduleState) -> tuple[Cell, ...]:
    return (
        Cell(state.schedule_id, "bold"),
        Cell(state.definition.workflow),
        Cell(state.state.lower(), "green" if state.state == "ACTIVE" else "yellow"),
        Cell("" if state.next_at is None else in_zone(state.next_at, state.definition.timezone)[:_TO_THE_MINUTE]),
        Cell(_when(state)),
        Cell(state.last_execution or ""),
        Cell(state.note or "", "red"),
    )


def _when(state: ScheduleState) -> str:
    definition = state.definition
    zone = f" {definition.timezone}" if definition.cron else ""
    return format_rule(definition.cron, definition.every) + zone


def _say(state: ScheduleState) -> None:
    following = "" if state.next_at is None else f"; next {in_zone(state.next_at, state.definition.timezone)}"
    text = f"schedule {state.schedule_id} of workflow '{state.definition.workflow}' is {state.state.lower()}"
    paint(f"{text}: {_when(state)}{following}" if state.state != "DELETED" else text)
