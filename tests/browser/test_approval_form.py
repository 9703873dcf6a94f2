"""A person decides an approval in JupyterLab: in the form of a cell that waits, and of one that has ended."""

from __future__ import annotations

import pytest
from playwright.sync_api import BrowserContext, Locator, expect

from .lab import MARKS, Lab, shoot

pytestmark = MARKS

SETUP = """
from datetime import timedelta
import cerebelum_nb
from cerebelum_nb import ApprovalRejectedError, history, step, wait_for_approval, workflow

store = cerebelum_nb.connect("{name}.db", hibernate_after=timedelta({hours}))

def small_enough(response):
    if response["size"] > 3:
        raise ValueError("at most 3")

@step
async def ask(inputs):
    shown = {{"price": inputs["price"], "for": "a laptop"}}
    return await wait_for_approval("budget", data=shown, validate=small_enough)

@step
def order(ask):
    return f"ordered {{ask['size']}}"

@step
def forget_it():
    return "not ordered"

@workflow
def purchase(wf):
    wf.timeline(ask >> order)
    wf.diverge(from_step=ask, patterns={{ApprovalRejectedError: forget_it}})
"""
RUN = 'result = await purchase.execute({"price": 120}, execution_id="p1")\nresult.output'
WHY = "history.sql(\"select data from events where type like 'Approval%' order by version\").data.iloc[-1]"


def fill(form: Locator, label: str, text: str) -> None:
    """Type as a person does: key by key."""
    field = form.locator(".widget-text", has_text=label).locator("input")
    field.fill("")
    field.press_sequentially(text, delay=20)


def press(form: Locator, name: str) -> None:
    form.get_by_role("button", name=name).click()


@pytest.mark.soak
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_while_the_cell_waits_the_form_approves_and_tells_a_refusal(
    lab: Lab, browser: BrowserContext, theme: str
) -> None:
    lab.theme(f"JupyterLab {theme.title()}")
    setup = SETUP.format(name=f"stays_{theme}", hours="hours=1")
    book = lab.open(browser, lab.notebook(f"stays_{theme}.ipynb", setup, RUN, WHY).name)
    book.run_through(0)
    book.run(1)
    form = book.output(1)
    expect(form.get_by_role("button", name="Approve")).to_be_visible(timeout=90_000)
    expect(form).to_contain_text('"price": 120')
    fill(form, "Response", '{"size": 5}')
    shoot(book.page, f"approval_{theme}_1_asked")
    press(form, "Approve")
    expect(form).to_contain_text("at most 3", timeout=90_000)
    shoot(book.page, f"approval_{theme}_2_refused")
    fill(form, "Response", '{"size": 2}')
    fill(form, "Comment", "fits the plan")
    press(form, "Approve")
    expect(book.output(1)).to_contain_text("ordered 2", timeout=90_000)
    expect(book.output(1)).to_contain_text("completed, 2 of 2 steps")
    shoot(book.page, f"approval_{theme}_3_done")
    book.run_through(2)
    expect(book.output(2)).to_contain_text("fits the plan")
    book.page.close()
    lab.end_kernels()


@pytest.mark.soak
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_below_a_cell_that_has_ended_the_form_rejects_and_the_next_cell_continues(
    lab: Lab, browser: BrowserContext, theme: str
) -> None:
    lab.theme(f"JupyterLab {theme.title()}")
    cells = (SETUP.format(name=f"ends_{theme}", hours="0"), RUN, "(await purchase.resume()).output", WHY)
    book = lab.open(browser, lab.notebook(f"ends_{theme}.ipynb", *cells).name)
    for number in (0, 1):
        book.run_through(number)
    form = book.output(1)
    expect(form.get_by_role("button", name="Reject")).to_be_visible(timeout=90_000)
    fill(form, "Comment", "too dear")
    shoot(book.page, f"approval_{theme}_4_ended")
    press(form, "Reject")
    expect(form).to_contain_text("Rejected by", timeout=90_000)
    expect(form).to_contain_text('or await purchase.resume("p1")')
    expect(form.get_by_role("button", name="Reject")).to_be_disabled()
    shoot(book.page, f"approval_{theme}_5_rejected")
    book.run_through(2)
    expect(book.output(2)).to_contain_text("not ordered")
    book.run_through(3)
    expect(book.output(3)).to_contain_text("too dear")
    book.page.close()
    lab.end_kernels()
