"""``cerebelum trace``: show an execution as a trace, or send it to a collector."""

from __future__ import annotations

import dataclasses

import click

from ..._text.duration import short_seconds
from ..._text.terminal import clean, width
from ..._text.text import cut
from ..app import log_options, open_log, print_json
from ..echo import emit
from .completion import execution_argument

__all__ = ["trace"]


@click.command()
@execution_argument()
@click.option("--otlp", metavar="URL", help="Send it to a collector that takes OTLP over HTTP: http://localhost:4318.")
@click.option(
    "--per",
    type=click.Choice(["execution", "run"]),
    default="execution",
    help="What makes one trace: the whole execution, or each of its runs in a process.",
)
@click.option("--json", "json_", is_flag=True, help="One object: execution_id, spans.")
@log_options
@click.pass_context
def trace(ctx: click.Context, execution_id: str, otlp: str | None, per: str, json_: bool) -> None:
    """Show an execution as a trace, or send it to a collector.

    The spans are made from the log and have the same ids as a live trace, so sending them twice changes nothing, and
    the spans that a killed process could not send are complete. --otlp needs
    `pip install 'cerebelum_nb[otel]'`.
    """
    from ..._observe.spans import tree
    from ..._observe.traces import send
    from ..._observe.traces import trace as read

    store = open_log(ctx, read_only=True)
    execution_id = store.execution(execution_id).execution_id
    spans = read(execution_id, store=store, per="run" if per == "run" else "execution")
    if otlp:
        count = send(spans, otlp)
        emit(f"sent {count} spans of {execution_id}, trace {_hex(spans[0].trace, 16) if spans else '-'}")
        return
    if json_:
        print_json({"execution_id": execution_id, "spans": [_as_data(span) for span in spans]})
        return
    if not spans:
        emit(f"no attempt of {execution_id} has ended yet")
        return
    first = min(span.start for span in spans)
    emit(f"trace {_hex(spans[0].trace, 16)}")
    for depth, span in tree(spans):
        after, took = (short_seconds(micros / 1e6) for micros in (span.start - first, span.end - span.start))
        outcome = span.attributes.get("cerebelum.step.outcome") or span.attributes.get("cerebelum.run.outcome") or ""
        line = f"{'+' + after:>8}  {took:>7}  {'  ' * depth}{clean(span.name)}  {outcome}"
        emit(cut(line.rstrip(), width() or 200))


def _as_data(span: object) -> dict[str, object]:
    assert dataclasses.is_dataclass(span) and not isinstance(span, type)
    data = dataclasses.asdict(span)
    data["trace"], data["id"] = _hex(data["trace"], 16), _hex(data["id"], 8)
    data["parent"] = None if data["parent"] is None else _hex(data["parent"], 8)
    data["links"] = [{"trace": _hex(trace_id, 16), "id": _hex(span_id, 8)} for trace_id, span_id in data["links"]]
    return data


def _hex(number: int, size: int) -> str:
    return number.to_bytes(size, "big").hex()
