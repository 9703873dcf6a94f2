"""What a person sees in JupyterLab: the bar, the stop button, the failed card, the notebook that is opened again."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from ..waiting import wait_for
from .lab import MARKS, ROOT, Lab, shoot

pytestmark = MARKS

SETUP = """
import asyncio, time
from pathlib import Path
import cerebelum_nb
from cerebelum_nb import ProgressReporter, flow, poll, sleep, step, workflow
"""

STEPS = """
@step
async def fetch(context):
    bar = ProgressReporter(context)
    while True:
        for percent in range(0, 100, 2):
            bar.update(percent, f"{percent} of 100 files")
            if percent % 10 == 0:
                print("fetched", percent)
            await asyncio.sleep(0.05)
        if Path("bar_seen").exists():
            return list(range(100))

@step
def check(fetch):
    print("checking", len(fetch), "files")
    time.sleep(1.5)
    return True

@step
async def settle(fetch):
    await sleep("3s")
    while not Path("sleep_seen").exists():
        await sleep("3s")
    return "settled"

@step
def publish(check, settle, inputs):
    room = {"small": 1}
    return room[inputs["size"]]

@step
def tell(publish):
    return "told"

@step
def apologise():
    return "sorry"

@workflow
def release(wf):
    wf.timeline(fetch >> [check, settle] >> publish >> tell)
    wf.diverge(from_step=publish, patterns={TimeoutError: flow.back_to(fetch), "limit": apologise >> tell})
"""

MENDED = """
@step
def publish(check, settle, inputs):
    room = {"small": 1, "large": 2}
    return room[inputs["size"]]
"""


@pytest.mark.parametrize("theme", ["light", pytest.param("dark", marks=pytest.mark.soak)])
def test_run_fail_fix_resume_save_and_open_again(lab: Lab, browser: BrowserContext, theme: str) -> None:
    lab.theme(f"JupyterLab {theme.title()}")
    path = lab.notebook(
        f"story_{theme}.ipynb", SETUP, STEPS, "release", 'await release.execute({"size": "large"})', MENDED,
        "await release.resume()",
    )  # fmt: skip
    book = lab.open(browser, path.name)
    forget(lab)
    for number in (0, 1, 2):
        book.run_through(number)
    expect(book.output(2).locator("img, svg").first).to_be_visible()
    book.output(2).scroll_into_view_if_needed()
    shoot(book.page, f"{theme}_1_graph")

    book.run(3)
    bar = book.output(3).locator(".widget-hbox .progress-bar").first
    expect(bar).to_be_visible(timeout=90_000)
    widths = set()
    while len(widths) < 3:  # it moves
        widths.add(bar.evaluate("bar => bar.style.width"))
    expect(book.output(3)).to_contain_text("fetched 20")
    shoot(book.page, f"{theme}_2_bar")
    saw(lab, "bar")
    expect(book.output(3)).to_contain_text("wakes in", timeout=90_000)
    saw(lab, "sleep")
    shoot(book.page, f"{theme}_3_sleep")

    expect(book.output(3)).to_contain_text('await release.resume("', timeout=90_000)
    expect(book.output(3)).to_contain_text("Cell In[2], line")
    expect(book.output(3)).to_contain_text("KeyError: 'large'")
    expect(book.output(3).locator(".jupyter-widgets")).to_have_count(0)
    book.output(3).scroll_into_view_if_needed()
    shoot(book.page, f"{theme}_4_failed")

    book.run_through(4)
    book.run(5)
    expect(book.output(5)).to_contain_text("completed, 5 of 5 steps", timeout=90_000)
    book.cell(5).scroll_into_view_if_needed()
    shoot(book.page, f"{theme}_5_resumed")
    book.save()
    book.page.close()

    lab.end_kernels()
    saved = json.loads(path.read_text())
    media = {kind for cell in saved["cells"] for output in cell["outputs"] for kind in output.get("data", {})}
    assert "application/vnd.jupyter.widget-view+json" not in media
    again = lab.open(browser, path.name, kernel=False)
    expect(again.output(5)).to_contain_text("completed, 5 of 5 steps")
    expect(again.output(5).locator("svg").first).to_be_visible()
    assert "model not found" not in again.page.content().lower()
    again.cell(5).scroll_into_view_if_needed()
    shoot(again.page, f"{theme}_6_opened_again")
    again.page.close()

    page = browser.new_page()
    page.goto(exported(path).as_uri())
    expect(page.locator("body")).to_contain_text("completed, 5 of 5 steps")
    page.screenshot(path=ROOT / "artifacts" / "browser" / f"{theme}_7_exported.png", full_page=True)


def saw(lab: Lab, *what: str) -> None:
    """Let steps end that last until something was seen, however slow the browser is."""
    for one in what:
        (lab.folder / f"{one}_seen").touch()


def forget(lab: Lab) -> None:
    for file in lab.folder.glob("*_seen"):
        file.unlink()


def exported(path: Path) -> Path:
    command = [sys.executable, "-m", "nbconvert", "--to", "html", "--log-level", "ERROR", str(path)]
    subprocess.run(command, check=True, cwd=path.parent, capture_output=True)
    return path.with_suffix(".html")


ASYNC = """
@step
async def wait_long():
    print("waits", flush=True)
    await asyncio.sleep(120)

@workflow
def patient(wf):
    wf.timeline(wait_long)
"""


@pytest.mark.soak
@pytest.mark.parametrize(
    ("kind", "steps"),
    [
        ("async", ASYNC),
        ("sync", ASYNC.replace("async def", "def").replace("await asyncio.sleep(120)", "time.sleep(20)")),
    ],
)
def test_the_stop_button_stops(lab: Lab, browser: BrowserContext, kind: str, steps: str) -> None:
    lab.theme("JupyterLab Light")
    book = lab.open(browser, lab.notebook(f"stop_{kind}.ipynb", SETUP, steps, "await patient.execute()").name)
    for number in (0, 1):
        book.run_through(number)
    book.run(2)
    expect(book.output(2)).to_contain_text("waits", timeout=90_000)
    book.stop()
    expect(book.output(2)).to_contain_text("ExecutionStoppedError", timeout=5_000)  # the step goes on much longer
    expect(book.output(2)).to_contain_text("paused")
    shoot(book.page, f"stopped_{kind}")
    book.page.close()
    lab.end_kernels()


WIDE = """
async def work(context):
    bar = ProgressReporter(context)
    for number in range(100):
        bar.update(number)
        await asyncio.sleep(0.01)
    while not Path("wide_seen").exists():
        await asyncio.sleep(0.1)

steps = [step(work, name=f"step_{n}") for n in range(200)]

@workflow
def wide(wf):
    wf.timeline([steps[:50], steps[50:100], steps[100:150], steps[150:]])
"""


ELSEWHERE = """
import asyncio, sys
sys.path.insert(0, {root!r})
from cerebelum_nb import ProgressReporter, step, workflow

@step
async def far_away(context):
    bar = ProgressReporter(context)
    for percent in range(0, 100, 4):
        bar.update(percent, "in another process")
        print("at", percent)
        await asyncio.sleep(0.2)

@step
async def after(far_away):
    await asyncio.sleep(0.2)

@workflow
def remote(wf):
    wf.timeline(far_away >> after)

asyncio.run(remote.execute(execution_id="elsewhere1"))
"""


def wait_until_logged(folder: Path) -> None:
    log = folder / ".cerebelum" / "history.db"
    wait_for(lambda: log.exists() and is_logged(log), "the other process records something")


def is_logged(log: Path) -> bool:
    with contextlib.closing(sqlite3.connect(f"file:{log}?mode=ro", uri=True)) as found:
        try:
            rows = found.execute("select 1 from executions where execution_id = 'elsewhere1'").fetchall()
        except sqlite3.OperationalError:  # its tables are still being made
            return False
    return bool(rows)


@pytest.mark.soak
def test_watch_follows_a_run_of_another_process(lab: Lab, browser: BrowserContext) -> None:
    lab.theme("JupyterLab Light")
    path = lab.notebook("watching.ipynb", SETUP, 'cerebelum_nb.watch("elsewhere1")')
    book = lab.open(browser, path.name)
    book.run_through(0)
    script = lab.folder / "elsewhere.py"
    script.write_text(ELSEWHERE.format(root=str(ROOT)))
    with subprocess.Popen([sys.executable, str(script)], cwd=lab.folder, stderr=subprocess.DEVNULL) as process:
        wait_until_logged(lab.folder)
        book.run(1)
        expect(book.output(1)).to_contain_text("in another process", timeout=90_000)
        expect(book.output(1)).to_contain_text("at ")
        shoot(book.page, "watch_1_running")
        expect(book.output(1)).to_contain_text("completed, 2 of 2 steps", timeout=90_000)
        expect(book.output(1).locator(".jupyter-widgets")).to_have_count(0)
        shoot(book.page, "watch_2_done")
        assert process.wait(timeout=120) == 0
    book.page.close()
    lab.end_kernels()


@pytest.mark.soak
def test_two_hundred_steps_stay_smooth_and_watch_shows_them_again(lab: Lab, browser: BrowserContext) -> None:
    lab.theme("JupyterLab Light")
    watching = "cerebelum_nb.watch(result.execution_id)"
    cells = (SETUP, WIDE, "result = await wide.execute()", watching)
    path = lab.notebook("wide.ipynb", *cells)
    book = lab.open(browser, path.name)
    for number in (0, 1):
        book.run_through(number)
    book.run(2)
    expect(book.output(2)).to_contain_text("more running", timeout=90_000)
    expect(book.output(2).locator(".widget-hbox .progress-bar").first).to_be_visible(timeout=90_000)
    shoot(book.page, "wide_1_running")
    saw(lab, "wide")
    expect(book.output(2)).to_contain_text("completed, 200 of 200 steps", timeout=120_000)
    shoot(book.page, "wide_2_done")
    book.run_through(3)
    expect(book.output(3)).to_contain_text("completed, 200 of 200 steps")
    expect(book.output(3).locator(".jupyter-widgets")).to_have_count(0)
    book.save()
    saved = json.loads(path.read_text())
    assert all(len(json.dumps(cell["outputs"])) < 100_000 for cell in saved["cells"])
    book.page.close()
    lab.end_kernels()


RUN_IN_THE_BACKGROUND = """
run = release.start({"size": "large"})
await asyncio.wait([run.execution.done])
"""


@pytest.mark.soak
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_slider_goes_through_a_failed_run_also_when_the_notebook_is_opened_again(
    lab: Lab, browser: BrowserContext, theme: str
) -> None:
    lab.theme(f"JupyterLab {theme.title()}")
    path = lab.notebook(
        f"slider_{theme}.ipynb", SETUP, STEPS, RUN_IN_THE_BACKGROUND, "run.slider()", "time.sleep(600)",
    )  # fmt: skip
    book = lab.open(browser, path.name)
    saw(lab, "bar", "sleep")
    for number in range(4):
        book.run_through(number)
    book.run(4)  # a busy kernel does not keep anybody from sliding

    def slides(page: Page, name: str) -> None:
        area = page.locator("[data-part=live]").first
        expect(area).to_be_visible()
        title, slider = area.locator("[data-part=title]"), area.locator("input[type=range]")
        expect(title).to_contain_text("WorkflowFailed")
        expect(area).to_contain_text("KeyError: 'large'")
        slider.focus()
        page.keyboard.press("Home")
        expect(title).to_have_text("event 1: WorkflowStarted")
        expect(area.locator('g[data-step="fetch"][data-state="waiting"]')).to_be_visible()
        page.keyboard.press("ArrowRight")
        expect(title).to_have_text("event 2: StepStarted fetch")
        expect(area.locator('g[data-step="fetch"][data-state="running"]')).to_be_visible()
        expect(area.locator("[data-part=changed]")).to_contain_text("steps['fetch'].phase→RUNNING")
        area.get_by_text("next", exact=True).click()
        expect(title).to_contain_text("event 3: Step")
        box = slider.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + 3, box["y"] + box["height"] / 2)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + box["height"] / 2, steps=12)
        page.mouse.up()
        expect(title).not_to_contain_text("event 3:")
        expect(area.locator('g[data-step="fetch"][data-state="completed"]')).to_be_visible()
        area.locator("summary", has_text="the whole state").click()
        expect(area.locator("[data-part=state]")).to_contain_text("steps['fetch'].phaseCOMPLETED")
        page.screenshot(path=ROOT / "artifacts" / "browser" / f"{theme}_slider_{name}.png")
        page.keyboard.press("Home")
        area.get_by_text("play", exact=True).click()
        expect(title).to_contain_text("event 4: ", timeout=90_000)
        area.get_by_text("pause", exact=True).click()
        slider.focus()
        page.keyboard.press("End")

    slides(book.page, "live")
    book.stop()
    book.save()
    book.page.close()
    lab.end_kernels()
    again = lab.open(browser, path.name, kernel=False)
    slides(again.page, "opened_again")
    again.page.close()
    page = browser.new_page()
    page.goto(exported(path).as_uri())
    slides(page, "exported")
    page.close()


@pytest.mark.soak
def test_a_slider_in_a_notebook_from_elsewhere_which_is_not_trusted_shows_how_it_ended(
    lab: Lab, browser: BrowserContext
) -> None:
    lab.theme("JupyterLab Light")
    shutil.copy(ROOT / "notebooks" / "05_time_travel.ipynb", lab.folder)
    page = lab.open(browser, "05_time_travel.ipynb", kernel=False).page
    shown = page.locator(".jp-CodeCell", has_text='history.slider("deploy-1")').locator(".jp-RenderedHTMLCommon")
    expect(shown).to_contain_text("completed, 7 of 7 steps")
    expect(shown.get_by_role("img", name="deploy: 7 completed")).to_be_visible()
    expect(shown.locator("button, input, svg")).to_have_count(0)
    page.close()
