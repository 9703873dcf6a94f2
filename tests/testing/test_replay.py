"""Recorded histories against the present code: what is refused, what is stale, and what a pure step returns now."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from cerebelum_nb import ExecutionClient, WorkflowError, archive, foreach, step, wait_for_approval, workflow
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb.testing import Workflows, recorded, replay


@step
def price(inputs):
    return inputs["amount"] * 2


@step
def tax(price):
    return (price, price * 0.2)  # a tuple: kept as bytes


@step(effect="external")
def charge(tax):
    raise AssertionError("no replay charges anybody")


@step
def charge_alone():
    return 1


@workflow
def order(wf):
    wf.timeline(price >> tax)


@pytest.fixture
def log(tmp_path):
    with SqliteStore(tmp_path / "log.db", durability="normal") as made:
        yield made


@pytest.fixture
def history(tmp_path, log):
    """A recorded run for tests."""
    order.run({"amount": 4, "token": "hunter-22"}, store=log, execution_id="k1")
    return archive.pack("k1", tmp_path / "k1.jsonl", for_tests=True, store=log).path


def flow_of(*chain, name="order"):
    @workflow(name=name)
    def made(wf):
        first, *rest = chain
        timeline = first
        for one in rest:
            timeline = timeline >> one
        wf.timeline(timeline)

    return made


def test_a_history_fits_the_code_that_made_it(history):
    (found,) = replay(history, order, pure=[price, tax], on="stale")

    assert not found.refused and not found.stale and not found.changed
    assert list(found.same) == ["price", "tax"]
    assert str(found) == f"k1 ({history}):\n  as recorded: price, tax"


def test_a_history_that_could_not_be_resumed_is_refused(history):
    with pytest.raises(
        AssertionError, match=r"(?s)1 of 1 recorded histories do not fit.*refused: .*step 'tax' \(completed, no longer"
    ):
        replay(history, flow_of(price))


def test_another_result_of_a_pure_step_is_a_change_and_a_stale_result_is_one_if_it_is_asked_for(history):
    @step(name="price")
    def dearer(inputs):
        return inputs["amount"] * 3

    now = flow_of(dearer, tax)
    with pytest.raises(AssertionError, match=r"'price' changed: 8 -> 12"):
        replay(history, now, pure=["price"])
    with pytest.raises(AssertionError, match=r"'price' is stale: "):
        replay(history, now, on="stale")
    (found,) = replay(history, now)
    assert "price" in found.stale and not found.changed


def test_a_step_that_is_not_named_is_not_called(history, tmp_path, log):
    @step(name="price")
    def raises(inputs):
        raise AssertionError("called")

    replay(history, flow_of(raises, tax))


def test_a_run_that_failed_or_waits_has_a_history_too(tmp_path, log):
    @step(name="tax")
    def fails(price):
        raise OSError("no table")

    with pytest.raises(WorkflowError):
        flow_of(price, fails).run({"amount": 4}, store=log, execution_id="k2")
    path = archive.pack("k2", tmp_path / "k2.jsonl", for_tests=True, store=log).path

    assert not replay(path, order)[0].refused
    assert replay(path, flow_of(charge_alone), on="never")[0].refused


def test_the_file_is_text_without_secrets_paths_and_people(tmp_path, log):
    @step
    async def ask(price):
        print("asking ana")
        return await wait_for_approval("budget")

    log.hibernate_after = timedelta(0)
    flow_of(price, ask, name="asked").run({"amount": 4, "token": "hunter-22"}, store=log, execution_id="k3")
    client = ExecutionClient(log)
    client.run_sync(client.approve("k3", "hunter-22 is right", by="ana"))
    text = archive.pack("k3", tmp_path / "k3.jsonl", for_tests=True, store=log).path.read_text()

    assert next(json.loads(line) for line in text.splitlines())["workflow"] == "asked"
    assert "ApprovalReceived" in text
    for private in ("hunter-22", "ana", str(tmp_path), __file__):
        assert private not in text


def test_an_error_in_the_file_names_no_person_and_no_place_and_is_the_same_error(tmp_path, log):
    @step
    async def ask():
        return await wait_for_approval("budget")

    log.hibernate_after = timedelta(0)
    asked = flow_of(ask, name="asked")
    asked.run(store=log, execution_id="k3")
    client = ExecutionClient(log)
    client.run_sync(client.reject("k3", "too dear", by="ana"))
    with pytest.raises(WorkflowError, match="rejected by ana: too dear"):
        asked.resume_sync("k3", store=log)
    path = archive.pack("k3", tmp_path / "k3.jsonl", for_tests=True, store=log).path

    assert "was rejected: too dear" in path.read_text()
    for private in ("ana", str(tmp_path), __file__):
        assert private not in path.read_text()
    assert replay(path, asked, pure=[ask])[0].same == ["ask"]


def test_the_recorded_results_of_a_foreach_replace_it_item_by_item(tmp_path, log):
    @step
    def fetch(region):
        return region.upper()

    @step
    def parse(fetch):
        return f"{fetch}!"

    @workflow
    def rollout(wf):
        wf.timeline(foreach(fetch >> parse, region="inputs.regions"))

    rollout.run({"regions": ["ams3", "nyc1"]}, store=log, execution_id="k5")
    then = recorded(archive.pack("k5", tmp_path / "k5.jsonl", for_tests=True, store=log).path)
    assert then.results == {"fetch": ["AMS3", "NYC1"], "parse": ["AMS3!", "NYC1!"]}
    with Workflows() as workflows:
        assert workflows.run(rollout, then.inputs, doubles=then.results).output == then.output
        with pytest.raises(WorkflowError, match="no recorded result, as the run had the items ams3, nyc1"):
            workflows.run(rollout, {"regions": ["lon1"]}, doubles=then.results)


def test_several_files_are_replayed_and_those_of_other_workflows_are_left_out(history, tmp_path, log):
    flow_of(price, name="other").run({"amount": 1}, store=log, execution_id="k4")
    archive.pack("k4", tmp_path / "k4.jsonl", for_tests=True, store=log)

    assert [one.execution_id for one in replay(f"{tmp_path}/*.jsonl", order)] == ["k1"]
    with pytest.raises(ValueError, match=r"no history of workflow 'nobody'.*they are of 'order', 'other'"):
        replay(f"{tmp_path}/*.jsonl", flow_of(price, name="nobody"))


def test_packing_it_again_replaces_it_and_nothing_else(history, tmp_path, log):
    archive.pack("k1", history, for_tests=True, store=log)
    (tmp_path / "mine.jsonl").write_text("{}\n")
    with pytest.raises(Exception, match=r"is not a test history. Name another one with -o"):
        archive.pack("k1", tmp_path / "mine.jsonl", for_tests=True, store=log)


WRONG = [
    (lambda path: replay(path, price), TypeError, "made with @workflow"),
    (lambda path: replay(path, order, on="always"), ValueError, "'never', 'refused', 'changed', 'stale'"),
    (lambda path: replay(path, order, pure="price"), TypeError, "a list of steps"),
    (lambda path: replay(path, order, pure=["prcie"]), ValueError, "Did you mean 'price'"),
    (lambda path: replay(path, flow_of(price, tax, charge), pure=[charge]), ValueError, "leave it out of pure"),
    (lambda path: replay("nowhere/*.jsonl", order), ValueError, "there is no such file"),
    (lambda path: replay([path.parent / "none.jsonl"], order), ValueError, "cannot be read"),
    (lambda path: replay([path.parent / "log.db"], order), ValueError, "cerebelum pack --for-tests ID"),
]


@pytest.mark.parametrize(("wrong", "error", "told"), WRONG)
def test_a_wrong_use_says_what_to_do(history, wrong, error, told):
    with pytest.raises(error, match=told):
        wrong(history)
