"""Plots of few and many steps, narrow and wide: every attempt has a bar, and no text overlaps another.

They are kept in ``artifacts/pictures/``, for a person to look at.
"""

from __future__ import annotations

import contextlib
import random
import sys
from datetime import timedelta
from itertools import combinations
from pathlib import Path

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cerebelum_nb import CerebelumError, ExecutionNotFoundError, WorkflowError, history, step, workflow
from cerebelum_nb._core import events as e
from cerebelum_nb._core.fold import fold
from cerebelum_nb._core.summary import summarise
from cerebelum_nb._core.value import ErrorInfo, Value
from cerebelum_nb._history.plots.axes import time_axis
from cerebelum_nb._history.spans import marks, timeline
from cerebelum_nb._store.base import Commit
from cerebelum_nb.testing import MemoryStore

FOLDER = Path(__file__).resolve().parents[2] / "artifacts" / "pictures"
NAMES = ["create_droplet", "wait_for_ip", "ssh_with_backoff", "configure", "migrate", "certificate", "check", "notify"]
DAY = timedelta(days=1)
NULL = Value("json", "null")
ERROR = ErrorInfo(type="ConnectionError", message="port 22 is closed")


class Deployment:
    """A run: every 7th step sleeps or polls, every 5th is retried, and one fails and is resumed a day later."""

    def __init__(self, count, *, seed=1, fails=None, asks=None, start=0, pace=10.0):
        self.chance, self.now, self.pace = random.Random(seed), start, pace
        self.events = []
        self.add(e.WorkflowStarted, workflow=f"deploy{count}", inputs=NULL, total_steps=count)
        for number in range(count):
            name = NAMES[number % 8] + (f"_{number}" if number > 7 else "")
            attempt = 1
            if number % 5 == 3 and self.chance.random() < 0.6:
                self.attempt(name, attempt, e.StepRetried, error=ERROR, due_at=self.now + 5_000_000)
                self.wait(5)
                attempt += 1
            if number == fails:
                self.attempt(name, attempt, e.StepFailed, error=ERROR)
                self.add(e.WorkflowFailed, error=ERROR, failed_step=name)
                self.wait(DAY.total_seconds())
                self.add(e.WorkflowResumed, retried=(name,))
                attempt += 1
            waits = {4: "sleep", 2: "poll"}.get(number % 7) if number != asks else "approval"
            self.attempt(name, attempt, e.StepCompleted, waits=waits, output=NULL)
        self.add(e.WorkflowCompleted, last_step=None)

    def add(self, kind, **more):
        self.events.append(kind(at=self.now, **more))

    def wait(self, seconds):
        self.now += round(seconds * 1e6)

    def attempt(self, name, attempt, ends, waits=None, **more):
        header = {"step": name, "attempt": attempt}
        self.add(e.StepStarted, **header)
        op = {**header, "op": f"{waits}:x:1:0"}
        match waits:
            case "sleep":
                self.add(e.SleepStarted, duration_ms=30_000, due_at=self.now + 30_000_000, **op)
                self.wait(30)
                self.add(e.SleepCompleted, **op)
            case "poll":
                self.add(e.PollStarted, **op)
                for number in (1, 2):
                    self.wait(4)
                    self.add(e.PollAttempted, number=number, due_at=self.now, **op)
                self.add(e.OperationCompleted, output=NULL, **op)
            case "approval":
                self.add(e.ApprovalRequested, approval_type="go", **op)
                self.wait(7200)
                self.add(e.ApprovalReceived, response=NULL, by="ana", **op)
        self.wait(self.chance.expovariate(1 / self.pace))
        self.add(ends, **header, **more)


def record(store, execution_id, events):
    me = store.register(0, 1)
    summary = summarise(fold(events))
    store.commit(
        [Commit(execution_id=execution_id, after=0, events=events, summary=summary, holder=me, release=True)]
    )  # fmt: skip


@pytest.fixture(scope="module")
def log():
    store = MemoryStore()
    for count in (3, 15, 60):
        record(store, f"run{count}", Deployment(count, fails=count // 2, asks=count - 1).events)
    for day in range(40):
        start = day * 86_400_000_000
        record(store, f"daily{day}", Deployment(15, seed=day, start=start, pace=5 + day / 3).events)
    record(store, "plain", Deployment(15, seed=9).events)
    return store


def saved(ax, name):
    """Render and keep a picture; return its texts with their positions."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    figure = ax.get_figure(root=True)
    figure.savefig(FOLDER / f"{name}.png")
    texts = [*ax.texts, ax.xaxis.label, ax.yaxis.label, ax.title, ax._left_title]
    for axis, limits in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim())):
        ticks = zip(axis.get_majorticklocs(), axis.get_ticklabels(), strict=True)
        texts += [label for place, label in ticks if min(limits) <= place <= max(limits)]  # the others are not drawn
    legends = [legend for legend in (*figure.legends, ax.get_legend()) if legend is not None]
    texts += [text for legend in legends for text in legend.get_texts()]
    return [(text.get_text(), text.get_window_extent()) for text in texts if text.get_visible() and text.get_text()]


def overlaps(texts):
    return [
        (one, other)
        for (one, a), (other, b) in combinations(texts, 2)
        if min(a.x1, b.x1) - max(a.x0, b.x0) > 1 and min(a.y1, b.y1) - max(a.y0, b.y0) > 1
    ]


def outside(ax, texts):
    box = ax.get_figure(root=True).bbox
    return [text for text, at in texts if at.x0 < -1 or at.y0 < -1 or at.x1 > box.x1 + 1 or at.y1 > box.y1 + 1]


SHAPES = {
    "run": lambda log, ax: history.plot("run15", store=log, ax=ax),
    "durations": lambda log, ax: history.plot_durations("deploy15", store=log, ax=ax),
    "failures": lambda log, ax: history.plot_failures("deploy15", store=log, ax=ax),
    "time": lambda log, ax: history.plot_time("deploy15", store=log, ax=ax),
    "trend": lambda log, ax: history.plot_trend("deploy15", store=log, ax=ax),
}


@pytest.mark.parametrize("count", [3, 15, pytest.param(60, marks=pytest.mark.soak)])
def test_a_run_has_a_bar_for_every_attempt_and_wait(log, count):
    ax = history.plot(f"run{count}", store=log)
    texts = saved(ax, f"run_{count}")
    run = timeline(marks(log.events(f"run{count}")))
    assert len(run.steps) == count
    drawn = {group.get_label(): len(group.patches) for group in ax.containers}
    kinds = [span.kind for span in (*run.attempts, *run.waits)]
    assert drawn == {kind: kinds.count(kind) for kind in kinds}
    assert {"completed", "failed", "retried"} <= drawn.keys() or count == 3
    assert overlaps(texts) == []
    assert outside(ax, texts) == []


def test_every_kind_of_wait_has_a_bar():
    step_a, store = {"step": "a"}, MemoryStore()
    waits = [
        (e.SleepStarted, e.SleepCompleted, "sleep:x:0:0", {"duration_ms": 1000, "due_at": 2_000_000}, {}),
        (e.ApprovalRequested, e.ApprovalReceived, "approval:go:0:0", {"approval_type": "go"}, {"response": NULL}),
        (e.SignalAwaited, e.SignalTaken, "signal:paid:0:0", {"name": "paid"}, {"received": 99}),
        (e.ChildStarted, e.ChildEnded, "child:ship:0:0", {"child": "c1", "workflow": "ship"}, {}),
        (e.PollStarted, e.OperationCompleted, "poll:x:0:0", {}, {"output": NULL}),
    ]
    events = [e.WorkflowStarted(at=0, workflow="w", inputs=NULL, total_steps=1), e.StepStarted(at=0, **step_a)]
    for place, (begins, ends, op, begin, end) in enumerate(waits):
        events.append(begins(at=place * 1_000_000, op=op, **step_a, **begin))
        events.append(ends(at=place * 1_000_000 + 900_000, op=op, **step_a, **end))
    events += [e.StepCompleted(at=6_000_000, output=NULL, **step_a), e.WorkflowCompleted(at=6_000_000, last_step="a")]
    record(store, "k1", events)
    drawn = {group.get_label() for group in history.plot("k1", store=store).containers}
    assert drawn == {"completed", "sleep", "approval", "signal", "child", "poll"}


@pytest.mark.parametrize(
    "count", [pytest.param(3, marks=pytest.mark.soak), 15, pytest.param(60, marks=pytest.mark.soak)]
)
@pytest.mark.parametrize("picture", ["plot_durations", "plot_failures", "plot_time", "plot_trend"])
def test_pictures_across_runs_are_legible(log, picture, count):
    ax = getattr(history, picture)(f"deploy{count}", store=log)
    texts = saved(ax, f"{picture}_{count}")
    assert overlaps(texts) == []
    assert outside(ax, texts) == []


@pytest.mark.parametrize("picture", SHAPES)
def test_pictures_fit_into_axes_of_the_callers(log, picture):
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    given = figure.add_subplot()
    assert SHAPES[picture](log, given) is given
    texts = saved(given, f"narrow_{picture}")
    assert overlaps(texts) == []


@pytest.mark.parametrize("picture", SHAPES)
def test_a_picture_is_matplotlibs_own_axes_and_shows_itself(log, picture):
    ax = SHAPES[picture](log, None)
    assert isinstance(ax, Axes)
    png, size = ax._repr_png_()
    assert png.startswith(b"\x89PNG")
    assert size["width"] == 1000
    ax.set_title("mine")
    ax.figure.set_size_inches(4, 3)
    assert ax._repr_png_()[1] == {"width": 400, "height": 300}


def test_no_picture_touches_pyplot(log):
    before = sys.modules.get("matplotlib.pyplot")
    figures = before.get_fignums() if before else []
    for picture in SHAPES.values():
        picture(log, None)
    after = sys.modules.get("matplotlib.pyplot")
    assert (after.get_fignums() if after else []) == figures


def test_the_pause_of_a_run_that_went_on_a_day_later_is_shortened(log):
    ax = history.plot("run15", store=log)
    texts = [text.get_text() for text in ax.texts]
    assert "1d" in texts
    assert "idle time is shortened" in ax.get_xlabel()
    first, last = (ax.containers[0].patches[place].get_window_extent() for place in (0, -1))
    assert last.x0 - first.x1 < ax.get_window_extent().width
    assert ax.containers[0].patches[-1].get_x() > 24 * 60  # the data are real minutes all the same


def test_a_run_without_pauses_has_a_plain_axis_in_one_unit(log):
    ax = history.plot("plain", store=log)
    assert ax.get_xlabel() == "time since 1970-01-01 00:00:00 UTC [s]"
    assert ax.get_xscale() == "linear"


def test_colour_and_hatch_show_how_an_attempt_ended(log):
    from cerebelum_nb._history.plots.axes import STYLES

    looks = [(style["facecolor"], style.get("hatch")) for style in STYLES.values()]
    assert len({colour for colour, _ in looks}) == len(looks)
    assert len({hatch for _, hatch in looks} - {None}) >= len(looks) - 2


def test_durations_say_of_how_many_they_are_and_choose_their_scale(log):
    ax = history.plot_durations("deploy15", store=log)
    assert ax.get_yticklabels()[0].get_text() == "create_droplet (n=42)"
    assert ax.get_xscale() == "log"
    few = history.plot_durations("deploy3", store=log)
    assert few.get_xscale() == "log"  # the approval took two hours


def test_failures_are_rates_with_an_interval_the_worst_on_top(log):
    ax = history.plot_failures("deploy15", store=log)
    rates = [patch.get_width() for patch in ax.containers[0].patches]
    assert rates == sorted(rates, reverse=True)
    assert all(" of " in text.get_text() for text in ax.texts)
    rows = [label.get_text() for label in history.plot_failures(store=log).get_yticklabels()]
    assert any(row.startswith("deploy15: ") for row in rows)
    assert any(row.startswith("deploy60: ") for row in rows)


def test_less_than_a_millisecond_is_not_nothing():
    ax = Figure().subplots()
    time_axis(ax, 1e-5, 0.1)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0.1ms", "1ms", "10ms", "100ms"]


def test_an_error_that_a_route_handles_is_not_a_failure():
    @step
    def size(inputs):
        return {"error": "too big"} if inputs["size"] > 1 else inputs["size"]

    @step
    def shrink():
        raise ValueError("cannot")

    @workflow
    def fitting(wf):
        wf.timeline(size)
        wf.diverge(from_step=size, patterns={"too big": shrink})

    log = MemoryStore()
    for n in (1, 2, 3):
        with contextlib.suppress(WorkflowError):
            fitting.run({"size": n}, store=log)
    assert [row.get_text() for row in history.plot_failures("fitting", store=log).get_yticklabels()] == ["shrink"]


def test_time_is_split_into_work_waiting_and_failures(log):
    ax = history.plot_time("deploy3", store=log)
    waiting = next(group for group in ax.containers if group.get_label() == "waiting")
    assert [round(patch.get_width() * 60) for patch in waiting.patches] == [0, 0, 7200]
    without = history.plot_time("deploy3", waits=False, store=log)
    assert without.get_xlim()[1] < ax.get_xlim()[1] * 3600


def test_a_trend_shows_the_steps_asked_for(log):
    ax = history.plot_trend("deploy15", ["migrate", "notify"], store=log)
    lines = [line.get_label() for line in ax.lines if not line.get_label().startswith("_")]
    assert [line.partition(",")[0] for line in lines] == ["migrate", "notify"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda log: history.plot_durations("deploy1", store=log), "no run of a workflow 'deploy1'. Did you mean"),
        (lambda log: history.plot_time("nope", store=log), "Available: "),
        (lambda log: history.plot_failures(store=MemoryStore()), "the log holds no execution yet"),
        (lambda log: history.plot_trend("deploy3", ["notifi"], store=log), "no step 'notifi' of workflow 'deploy3'"),
        (lambda log: history.plot("begun", store=begun()), "no step of execution begun has started yet"),
        (lambda log: history.plot_time("deploy0", store=begun()), "no step of workflow 'deploy0' has started yet"),
    ],
)
def test_without_anything_to_draw_the_error_says_why(log, call, message):
    with pytest.raises(CerebelumError) as caught:
        call(log)
    assert message in str(caught.value)


def begun():
    store = MemoryStore()
    record(store, "begun", Deployment(0).events[:1])
    return store


def test_an_unknown_run_is_refused_with_near_ids(log):
    with pytest.raises(ExecutionNotFoundError, match="run15"):
        history.plot("run51", store=log)


def test_more_than_six_trends_are_refused(log):
    with pytest.raises(ValueError, match="at most 6 names"):
        history.plot_trend("deploy15", NAMES, store=log)


def test_without_matplotlib_the_extra_is_named(log, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(CerebelumError, match=r"pip install 'cerebelum_nb\[plot\]'"):
        history.plot("run3", store=log)
