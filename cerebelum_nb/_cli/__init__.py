"""The ``cerebelum`` command. Each command is a module of this package; this file only lists them."""

from __future__ import annotations

import sys

import click

from .app import Cli, log_options

__all__ = ["main"]

_HOMES = {  # the module and the help line of each command; `cerebelum --help` imports none of them
    "run": ("run", "Run a workflow."),
    "list": ("list", "List executions, newest first."),
    "active": ("list", "List what is running, sleeping or waiting, and for what."),
    "status": ("status", "Show one execution: its steps, waits, errors, what to do next."),
    "watch": ("watch", "Watch one execution, live, until it ends."),
    "events": ("status", "Show the events of one execution, in order."),
    "dashboard": ("dashboard", "Watch and control executions in a browser, live."),
    "debug": ("debug", "Go through a run event by event: what happened, what was known."),
    "resume": ("resume", "Resume an execution that failed, was stopped, or died."),
    "fork": ("fork", "Run the rest of an execution as a new one, from any step."),
    "rollback": ("rollback", "Undo what an execution has done."),
    "approve": ("decide", "Approve what an execution is waiting for."),
    "reject": ("decide", "Reject what an execution is waiting for."),
    "cancel": ("decide", "End an execution for good."),
    "signal": ("signal", "Send a signal to an execution."),
    "tag": ("tag", "Add tags to executions, or remove some."),
    "export": ("export", "Write one execution to a file that needs no log."),
    "pack": ("pack", "Write one execution to a file that opens elsewhere."),
    "unpack": ("pack", "Add executions from a packed file to the log."),
    "promote": ("promote", "Make a module of a notebook's workflow, and prove it."),
    "prune": ("prune", "Delete finished executions and free their space."),
    "schedule": ("schedule", "Start a workflow at certain times."),
    "scheduler": ("scheduler", "Resume what is due, or was left by a dead process."),
    "metrics": ("metrics", "Serve the metrics of a log to Prometheus."),
    "notify": ("notify", "Send notifications of what happens in a log."),
    "trace": ("trace", "Show an execution as a trace, or send it to a collector."),
    "cluster": ("cluster", "Start and stop a Temporal server on this machine."),
    "worker": ("cluster", "Run the steps of workflows for a cluster."),
    "follow": ("cluster", "Copy the executions of a cluster into the log."),
    "verify": ("verify", "Say whether the log was altered or damaged, and where."),
    "doctor": ("doctor", "Check the log and its executions, and say what to do."),
    "tutorial": ("tutorial", "Learn by doing, in lessons of ten minutes."),
    "demo": ("demo", "Watch a real deployment fail, get fixed and resume."),
}


@click.group(
    cls=Cli,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="An ID may be shortened to any unambiguous prefix.",
)
@click.version_option(package_name="cerebelum_nb", message="%(version)s")
@log_options
def main() -> None:
    """Durable workflows for Jupyter: see, decide, resume."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without UTF-8 shows what it can


assert isinstance(main, Cli)
main.homes = _HOMES
