"""The dashboard in a real Chromium, while a real process runs what it shows."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from ..browser.lab import CHROMIUM, FLAGS, MARKS, ROOT, shoot

pytestmark = [*MARKS, pytest.mark.browser]

HERE = Path(__file__).parent
DESK, PHONE, NARROW = ({"width": w, "height": h} for w, h in ((1280, 800), (390, 780), (320, 640)))


@contextmanager
def running(*command: str, folder: Path, **more: Any) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([sys.executable, *command], cwd=folder, env=environment, text=True, **{**quiet, **more})
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


class Relay:
    """A connection between the browser and the dashboard that can be cut."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.is_cut = False
        threading.Thread(target=self._serve, daemon=True).start()

    def cut(self) -> None:
        """Close every connection, and accept no other."""
        self.is_cut = True
        for one in [*self._open]:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def restore(self) -> None:
        """Accept connections again."""
        self.is_cut = False

    def close(self) -> None:
        self.cut()
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.is_cut:
                    client.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self._to))
                self._open += [client, server]
                for one, other in ((client, server), (server, client)):
                    threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    @staticmethod
    def _pass(one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
        for end in (one, other):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


class Shop:
    """A folder with a log, a dashboard of it, and a browser."""

    def __init__(self, folder: Path, address: str, browser: Browser, stack: ExitStack) -> None:
        self.folder, self.browser, self._stack = folder, browser, stack
        self.base, _, self.token = address.partition("/?token=")
        self._contexts: list[Any] = []

    def run(self, what: str, execution_id: str) -> subprocess.Popen[str]:
        """Start a process that runs a workflow."""
        command = running(
            "shop.py", what, execution_id, folder=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        return self._stack.enter_context(command)

    def finished(self, what: str, execution_id: str) -> None:
        """Run a workflow to its end."""
        self.run(what, execution_id).wait(60)

    def open(self, path: str, *, base: str = "", **options: Any) -> Page:
        """Open a page in a new window, through the printed address."""
        context = self.browser.new_context(**{"viewport": DESK, **options})
        self._contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.goto(f"{base or self.base}/shop/{path}{'&' if '?' in path else '?'}token={self.token}")
        return page

    def go(self, page: Page, path: str) -> None:
        """Open another page, which must exist, in the same window."""
        answer = page.goto(page.url.partition("/shop/")[0].rstrip("/") + f"/shop/{path}")
        assert answer is not None and answer.status == (404 if path == PAGES["missing"] else 200), (path, answer)

    def close_pages(self) -> None:
        while self._contexts:
            self._contexts.pop().close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    shutil.copy(HERE / "shop.py", folder)
    with ExitStack() as stack:
        with running(
            "shop.py", "deploy", "failed-1", folder=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as first:
            first.wait(60)
        shutil.copy(folder / "shop.db", folder / "other.db")
        command = ["-m", "cerebelum_nb", "dashboard", "shop.db", "other.db", "--port", "0", "--allow-resume"]
        server = stack.enter_context(running(*command, folder=folder, stdout=subprocess.PIPE))
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        stack.callback(browser.close)
        yield Shop(folder, address, browser, stack)
        (folder / "stop").touch()


@pytest.fixture
def shop(place: Shop) -> Iterator[Shop]:
    """The shop, without windows of another test."""
    yield place
    place.close_pages()


@pytest.fixture(scope="module")
def busy(place: Shop) -> str:
    """An execution that writes events all the time, and asks for approval."""
    place.run("release", "busy-1")
    return "e/busy-1"


def when_there(page: Page) -> None:
    """Wait until an execution that a process has just started is shown."""
    expect(page.locator("#steps .live").first).to_be_visible(timeout=30_000)


def opened(shop: Shop, path: str, **options: Any) -> Page:
    """Open the page of an execution that may not have started yet."""
    page = shop.open("", **options)
    expect(page.locator(f"a[href$='{path}']")).to_be_visible(timeout=30_000)
    shop.go(page, path)
    return page


def version(page: Page) -> int:
    return int(page.locator("#p-head dd a[title='Go back in time']").inner_text())


def later(page: Page, than: int) -> None:
    """Wait for an event after another one."""
    script = "n => +document.querySelector('#p-head dd a[title]').textContent > n"
    page.wait_for_function(script, arg=than)


def test_a_new_execution_appears_in_the_list_by_itself(shop):
    page = shop.open("")
    expect(page.locator("#link")).to_have_text("live")
    expect(page.locator("#x-new-1")).to_have_count(0)
    shop.finished("deploy", "new-1")
    expect(page.locator("#x-new-1")).to_contain_text("no healthy backend")


def test_a_form_in_use_keeps_text_and_focus_when_its_part_is_sent_again(shop, busy):
    page = opened(shop, busy)
    page.get_by_label("Response").wait_for()
    kept = page.evaluate("""() => {
        const answer = document.querySelector("textarea[name=response]")
        answer.focus()
        answer.value = "half an answer"
        const part = answer.closest("main [id]")
        put(part.id, part.outerHTML)
        return [document.activeElement === answer, answer.isConnected, answer.value]
    }""")
    assert kept == [True, True, "half an answer"]


def test_typing_goes_on_while_the_page_changes_and_enter_approves(shop, busy):
    page = opened(shop, busy)
    answer = page.get_by_label("Response")
    answer.wait_for()
    before = version(page)
    answer.press_sequentially('{"window": "tonight", "hosts": [1, 2, 3]}', delay=40)
    later(page, before + 5)
    expect(answer).to_have_value('{"window": "tonight", "hosts": [1, 2, 3]}')
    expect(answer).to_be_focused()
    shoot(page, "dashboard-live")
    page.keyboard.press("Tab")
    page.keyboard.insert_text("tests are green")
    page.keyboard.press("Tab")
    page.keyboard.insert_text("ana")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Approve")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".ask")).to_have_count(0)
    expect(page.locator("#steps")).to_contain_text('"window":"tonight"')
    page.goto(f"{page.url}?type=ApprovalReceived")
    expect(page.locator(".ev")).to_contain_text("by ana via dashboard")


@pytest.mark.soak
def test_what_is_opened_stays_open_while_the_page_changes(shop, busy):
    page = opened(shop, busy)
    when_there(page)
    page.locator("#p-actions summary", has_text="Cancel").click()
    reason = page.locator("#p-actions").get_by_label("Reason")
    reason.fill("a reason")
    later(page, version(page) + 20)
    expect(reason).to_have_value("a reason")


def test_a_lost_connection_is_shown_and_restored(shop, busy):
    relay = Relay(int(shop.base.rpartition(":")[2]))
    page = shop.open(busy, base=f"http://127.0.0.1:{relay.port}")
    when_there(page)
    expect(page.locator("#link")).to_have_text("live")
    relay.cut()
    expect(page.locator("#link")).to_contain_text("not connected")
    before = version(page)
    relay.restore()
    expect(page.locator("#link")).to_have_text("live", timeout=20_000)
    later(page, before)
    relay.close()


def test_dragging_goes_back_in_time_without_another_page(shop):
    page = shop.open("e/failed-1")
    page.locator("#p-head dd a[title]").click()
    expect(page.locator("#p-head .badge")).to_contain_text("failed")
    page.evaluate("window.stayed = true")
    bar = page.get_by_role("slider")
    bar.focus()
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    expect(page.locator("#p-head .badge")).to_contain_text("running")
    expect(page.locator("#travel-at")).to_have_text(str(int(bar.get_attribute("max") or 0) - 3))
    page.wait_for_url(f"**/at/{page.locator('#travel-at').inner_text()}*")
    assert page.evaluate("window.stayed")


def test_the_keyboard_finds_and_opens_an_execution(shop):
    page = shop.open("")
    page.keyboard.press("/")
    expect(page.get_by_label("Search")).to_be_focused()
    page.keyboard.insert_text("failed-1")
    page.keyboard.press("Enter")
    page.wait_for_url("**/?q=failed-1")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/e/failed-1")
    page.go_back()
    expect(page.get_by_label("Search")).to_have_value("failed-1")


def test_pages_work_without_a_script(shop):
    page = shop.open("e/failed-1", java_script_enabled=False)
    expect(page.locator("#p-next")).to_contain_text("no healthy backend")
    page.get_by_label("Type").select_option("StepFailed")
    page.get_by_role("button", name="Show").click()
    assert page.locator(".ev tbody tr").count() == 1
    page.get_by_role("link", name="All runs of deploy").click()
    expect(page.locator(".chart a").first).to_be_visible()


@pytest.mark.soak
def test_a_form_starts_a_workflow_and_shows_what_is_wrong_beside_its_fields(shop):
    shop.finished("order", "order-1")
    page = shop.open("e/order-1")
    page.get_by_role("link", name="Start another").click()
    page.get_by_label("count").fill("many")
    page.get_by_label("until").fill("2026-12-24")
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_label("size")).to_have_accessible_description("size is missing: give one of 'small', 'large'")
    expect(page.get_by_label("count")).to_have_accessible_description("count is 'many', not a whole number")
    for look, size in (("desk", DESK), ("phone", PHONE)):
        page.set_viewport_size(size)
        shoot(page, f"dashboard-start-wrong-{look}")
        assert overflow(page) == 0
    page.evaluate(Axe().axe_script)
    assert serious(page) == []
    page.get_by_label("size").select_option("large")
    page.get_by_label("count").fill("7")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#steps")).to_contain_text("7 picked until 2026-12-24", timeout=30_000)


LIGHT: dict[str, Any] = {"viewport": DESK, "color_scheme": "light"}
DARK: dict[str, Any] = {"viewport": NARROW, "color_scheme": "dark"}
PAGES = {
    "logs": "../",
    "list": "",
    "failed": "e/failed-1",
    "filtered": "e/failed-1?type=StepFailed",
    "earlier": "e/failed-1/at/3",
    "step": "e/failed-1/step/build",
    "asking": "e/asking-1",
    "each": "e/each-1",
    "items": "e/each-1/step/place",
    "item": "e/each-1/step/place~5bnyc1~5d",
    "runs": "w/deploy",
    "start": "w/order/start",
    "choice": "diff?a=failed-1",
    "compared": "diff?a=failed-1&b=each-1",
    "missing": "e/none",
}


def serious(page: Page, *rules: str) -> list[tuple[str, str]]:
    """Return the serious problems that axe finds, by all its rules or some; its script is in the page."""
    options = {"resultTypes": ["violations"], **({"runOnly": [*rules]} if rules else {})}
    found = page.evaluate("options => axe.run(document, options).then(found => found.violations)", options)
    return [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")]


def overflow(page: Page) -> int:
    """Return how many pixels the page would have to be scrolled sideways."""
    return max(0, int(page.evaluate("document.documentElement.scrollWidth - window.innerWidth")))


@pytest.mark.soak
def test_every_page_fits_320_pixels_and_is_accessible_in_light_and_dark(shop):
    """No serious problem for axe, no sideways scrolling, no complaint of the browser about the policy."""
    for process in (shop.run("wait", "asking-1"), shop.run("each", "each-1"), shop.run("order", "order-1")):
        process.wait(60)
    complaints: list[str] = []
    page = shop.open("", **DARK)
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    for name, path in PAGES.items():
        shop.go(page, path)
        page.evaluate(Axe().axe_script)
        assert (name, overflow(page), serious(page)) == (name, 0, [])
        page.emulate_media(color_scheme="light")
        page.set_viewport_size(DESK)
        assert (name, overflow(page), serious(page, "color-contrast")) == (name, 0, [])
        page.emulate_media(color_scheme="dark")
        page.set_viewport_size(NARROW)
    assert [told for told in complaints if "404" not in told] == []


@pytest.mark.soak
@pytest.mark.parametrize(
    ("look", "options"),
    [("desk", LIGHT), ("dark", {**LIGHT, "color_scheme": "dark"}), ("phone", {"viewport": PHONE}), ("narrow", DARK)],
)
def test_pictures_of_every_page_are_kept(shop, look, options):
    page = shop.open("", **options)
    for name, path in PAGES.items():
        shop.go(page, path)
        shoot(page, f"dashboard-{name}-{look}")
        assert overflow(page) == 0


@pytest.mark.soak
def test_nothing_moves_with_reduced_motion(shop, busy):
    still, moving = (opened(shop, busy, reduced_motion=wish) for wish in ("reduce", "no-preference"))

    def animations(page: Page) -> int:
        return int(page.evaluate("document.getAnimations().length"))

    for page in (still, moving):
        when_there(page)
    assert animations(still) == 0 and animations(moving) > 0
