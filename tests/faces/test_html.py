"""Whatever a run's names, values, errors and outputs hold never becomes markup in any HTML that is shown."""

from __future__ import annotations

import asyncio
from html.parser import HTMLParser

import pytest

from cerebelum_nb import ExecutionClient, WorkflowError, approval_form, history, step, wait_for_approval, workflow
from cerebelum_nb._core.graph import Plan
from cerebelum_nb._core.state_name import ExecutionState
from cerebelum_nb._notebook.notes import Note
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb._text.html import Html, badge, fold, page, section, small_table, table
from cerebelum_nb._views.card import Row, html_row
from cerebelum_nb._views.graph import Graph
from cerebelum_nb._views.live import _line_html
from cerebelum_nb._views.slider import Slider
from cerebelum_nb._workflow.stepper import StepReport
from cerebelum_nb.archive import export
from cerebelum_nb.testing import MemoryStore

NASTY = """<script>alert(1)</script><img src=x onerror='alert(2)'>"'><b onclick="x">&lt;"""


class _Reader(HTMLParser):
    """Reads as a browser does; collects the visible text, and whatever would run or be loaded."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.seen: list[str] = []
        self.active: list[str] = []
        self._in_script = False

    def handle_starttag(self, tag, attrs):
        self._in_script = tag in ("script", "style")
        self.active += [tag] if tag == "script" else []
        self.active += [name for name, value in attrs if name.startswith("on") or (name, value) == ("src", "x")]
        self.seen += [value for _, value in attrs if value]

    def handle_endtag(self, tag):
        self._in_script = False

    def handle_data(self, data):
        if not self._in_script:
            self.seen.append(data)


def read(face: str, scripts: int = 0) -> str:
    """Return the visible text; nothing may run except this many scripts of ours."""
    reader = _Reader()
    reader.feed(face)
    reader.close()
    assert reader.active == ["script"] * scripts
    return "\n".join(reader.seen)


@step
def fetch(inputs):
    print(NASTY)
    return {NASTY: NASTY}


@step
def publish(fetch, inputs):
    raise ValueError(NASTY)


@workflow(name=NASTY)
def nasty(wf):
    wf.timeline(fetch >> publish)


@workflow(name=NASTY)
def short(wf):
    wf.timeline(fetch)


@pytest.fixture
def log(tmp_path):
    with SqliteStore(tmp_path / "log.db", durability="normal") as log:
        yield log


@pytest.fixture
def failed(log):
    with pytest.raises(WorkflowError) as caught:
        asyncio.run(nasty.execute({NASTY: NASTY}, store=log))
    return caught.value.execution_id


def html(shown):
    return shown._repr_mimebundle_()["text/html"]


def test_a_result_shows_it_as_text(log):
    result = asyncio.run(short.execute({"a": NASTY}, store=log))
    assert NASTY in read(html(result))


def test_a_state_of_the_past_and_a_comparison_show_it_as_text(log, failed):
    assert NASTY in read(html(history.state_at(failed, store=log)))
    other = asyncio.run(short.execute({"a": "b"}, store=log)).execution_id
    assert "<script>" in read(history.diff(failed, other, store=log)._repr_html_())


def test_the_slider_shows_it_as_text(log, failed):
    slider = Slider(failed, log.events(failed), nasty.plan())
    assert NASTY in read(html(slider), scripts=1)


def test_the_page_of_a_failed_run_shows_it_as_text(log, failed, tmp_path):
    made = export(failed, tmp_path / "run.html", store=log)
    text = read(made.read_text(encoding="utf-8"), scripts=1)
    assert text.count(NASTY) >= 4, "its name, what it printed, its error, and the traceback"


def test_the_live_view_shows_it_as_text():
    row = Row(name=NASTY, state="running", note=NASTY, printed=NASTY, seconds=2.0, percent=5.0)
    assert read(_line_html(row)).count(NASTY) == 3
    assert read(html_row(row, NASTY, NASTY)).count(NASTY) == 4


async def test_the_form_of_an_approval_shows_it_as_text():
    @step
    async def ask():
        await wait_for_approval(NASTY, data={"why": NASTY})

    @workflow
    def asking(wf):
        wf.timeline(ask)

    log = MemoryStore()
    run = asking.start(store=log, execution_id="k1")
    while run.status != "WAITING_FOR_APPROVAL":
        await asyncio.sleep(0)
    assert NASTY in read(html(approval_form("k1", store=log)))
    run.cancel()


async def test_a_status_shows_it_as_text(log, failed):
    with ExecutionClient(log) as client:
        assert NASTY in read(html(await client.get_execution_status(failed)))


def test_a_plan_shows_it_as_text(log, failed):
    assert NASTY in read(html(nasty.plan_resume(failed, store=log)))


def test_a_picture_of_a_plan_with_such_a_name_shows_it_as_text():
    """No step can have such a name, but a log from elsewhere may hold anything."""
    plan = Plan(workflow=NASTY, timeline=((NASTY,), ("b",)), steps={})
    graph = Graph(plan)
    for drawn in (graph.to_svg(), graph.to_svg({NASTY: "failed"}), graph.to_changing_svg({NASTY: ("failed",)})):
        assert NASTY in read(drawn)
    assert NASTY in read(graph.to_image())


@pytest.mark.parametrize(
    "shown",
    [
        StepReport(ran=((NASTY, NASTY, NASTY),), next=(NASTY,), status=ExecutionState.RUNNING, note=NASTY),
        Note(NASTY, NASTY, (NASTY,)),
    ],
)
def test_the_output_of_a_cell_shows_it_as_text(shown):
    assert NASTY in read(html(shown))


@pytest.mark.parametrize(
    "made",
    [
        section(NASTY, Html("<p>{}</p>").format(NASTY)),
        table([NASTY], [[NASTY]]),
        small_table([[NASTY], [NASTY]]),
        fold(NASTY, Html("{}").format(NASTY)),
        badge("failed", NASTY),
        Html("<i title='{}'>{}</i>").format(NASTY, NASTY),
        Html("<br>").join([NASTY, NASTY]),
        Html("<br>") + NASTY,
    ],
)
def test_every_piece_escapes_what_is_not_html(made):
    assert isinstance(made, Html)
    assert NASTY in read(made)


def test_html_that_an_f_string_has_turned_into_plain_text_is_escaped():
    assert read(Html("<p>{}</p>").format(f"{Html('<b>bold</b>')}")) == "<b>bold</b>"


def test_a_page_escapes_its_title():
    assert NASTY in read(page(NASTY, [section("steps", Html("<p></p>"))]), scripts=1)
