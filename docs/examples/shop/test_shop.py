"""A hundred tests of the workflow in `shop.py`: python -m pytest, in this folder."""

from pathlib import Path

import pytest
from shop import approve, charge, order, pack, price, refund

from cerebelum_nb import WorkflowError
from cerebelum_nb.testing import Fails, crash_after, crash_before, recorded, replay

TEA, POT, SAMOVAR = ({"name": name, "price": cost} for name, cost in (("tea", 4), ("pot", 30), ("samovar", 600)))
PAID = {charge: "receipt 1"}
HISTORIES = Path(__file__).parent / "histories"


def basket(*counted):
    return {"items": [{**item, "count": count} for item, count in counted]}


@pytest.mark.parametrize("count", range(1, 26))
def test_the_price_has_shipping_below_fifty(workflows, count):
    run = workflows.run(order, basket((TEA, count)), doubles=PAID)
    assert run.results["price"] == 4 * count + (5 if 4 * count < 50 else 0)
    assert run.output == f"how was {count} x tea?"


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("also", [TEA, POT])
def test_each_item_is_packed_and_a_month_later_we_ask(workflows, also, count):
    inputs = {"items": [{**also, "name": f"{also['name']} {n}", "count": 1} for n in range(count)]}
    run = workflows.run(order, inputs, doubles=PAID)
    assert run.attempts(pack) == count and run.waited == "30d"
    assert run.path == ["price", "approve", "charge", "pack", "remind"]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_a_large_order_waits_for_a_person(workflows, count):
    run = workflows.run(order, basket((SAMOVAR, count)), doubles=PAID)
    assert run.waits_for == "approval 'large order'" and run.attempts(charge) == 0
    assert run.approve("large order", "fine").output == f"how was {count} x samovar?"


@pytest.mark.parametrize("reason", ["too dear", "no samovars", "closed", "", "unknown customer"])
def test_an_order_that_is_turned_down_costs_nothing(workflows, reason):
    run = workflows.run(order, basket((SAMOVAR, 1)), doubles=PAID)
    assert run.reject("large order", reason).output == "sorry"
    assert run.attempts(charge) == 0


@pytest.mark.parametrize("days", [2, 3, 5, 7, 30])
def test_nobody_answers(workflows, days):
    run = workflows.run(order, basket((SAMOVAR, 1)), doubles=PAID)
    run.clock.advance(f"{days}d")
    assert "was not decided within 2d" in str(run.error)


@pytest.mark.parametrize("line_is_busy", [0, 1, 2])
@pytest.mark.parametrize("out_of_paper", [0, 1, 2, 3])
def test_what_fails_for_a_while_is_tried_again(workflows, line_is_busy, out_of_paper):
    doubles = {
        charge: Fails(ConnectionError, times=line_is_busy, then="receipt 1") if line_is_busy else "receipt 1",
        pack: Fails(OSError, times=out_of_paper, then="a parcel") if out_of_paper else "a parcel",
    }
    run = workflows.run(order, basket((POT, 1)), doubles=doubles)
    assert run.output == "how was a parcel?"
    assert (run.attempts(charge), run.attempts(pack)) == (1 + line_is_busy, 1 + out_of_paper)


@pytest.mark.parametrize("receipt", ["a", "b", "c", "d", "e"])
def test_who_cannot_be_sent_a_parcel_is_refunded(workflows, receipt):
    refunded = []
    doubles = {charge: receipt, pack: Fails(OSError("no paper")), refund: lambda charge: refunded.append(charge)}
    with pytest.raises(WorkflowError, match="no paper"):
        workflows.run(order, basket((POT, 1)), doubles=doubles)
    assert workflows.last.status == "ROLLED_BACK" and refunded == [receipt]


@pytest.mark.parametrize("step", [price, approve, charge, "pack[pot]", "pack[tea]", "pack", "remind"])
def test_after_a_crash_nothing_that_is_recorded_happens_again(workflows, step):
    charged = []
    with crash_after("StepStarted" if step == "remind" else "StepCompleted", step=step):
        workflows.run(order, basket((TEA, 2), (POT, 1)), doubles={charge: lambda: charged.append(1) or "receipt 1"})
    run = workflows.resume(order, repeat=[charge])  # which may have begun, and did not charge in any of these
    assert run.output == "how was 2 x tea, 1 x pot?" and charged == [1]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_the_gap_that_no_log_can_close(workflows, count):
    keys = []
    doubles = {charge: lambda context: keys.append(context.idempotency_key) or "receipt 1"}
    with crash_before("StepCompleted", step=charge):
        workflows.run(order, basket((TEA, count)), doubles=doubles)
    workflows.resume(order, repeat=[charge])
    assert len(keys) == 2 and len(set(keys)) == 1  # the bank is asked twice, with one key


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
def test_the_same_order_twice_is_two_orders(workflows, count):
    runs = [workflows.run(order, basket((TEA, count)), doubles=PAID) for _ in range(2)]
    assert runs[0].output == runs[1].output and runs[0].execution_id != runs[1].execution_id


@pytest.mark.parametrize("inputs", [basket((TEA, 1)), basket((POT, 2)), basket((TEA, 1), (POT, 1)), basket((TEA, 20))])
@pytest.mark.crash_after_every_event(repeat=[charge])
def test_an_order_survives_every_crash(workflows, inputs):
    run = workflows.run(order, inputs, doubles=PAID)
    assert run.output.startswith("how was") and run.waited == "30d"


@pytest.mark.crash_after_every_event(repeat=[charge])
def test_a_large_order_survives_every_crash(workflows):
    run = workflows.run(order, basket((SAMOVAR, 1)), doubles=PAID)
    run.approve("large order", "fine")
    assert run.output == "how was 1 x samovar?"


@pytest.mark.parametrize("history", ["small.jsonl", "large.jsonl"])
def test_orders_of_last_year_still_fit(history):
    replay(HISTORIES / history, order, pure=[price, approve], on="stale")


@pytest.mark.parametrize("history", ["small.jsonl", "large.jsonl"])
def test_an_order_of_last_year_ends_as_it_did(workflows, history):
    then = recorded(HISTORIES / history)
    run = workflows.run(order, then.inputs, doubles=then.results)
    assert run.output == then.output


@pytest.mark.parametrize("count", [1, 2])
def test_the_price_is_a_function(count):
    assert price(inputs=basket((TEA, count))) == 4 * count + 5
