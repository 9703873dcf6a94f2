"""The electives: each check catches a wrong answer and accepts the right one."""

from __future__ import annotations

import inspect
import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cerebelum_nb import WorkflowError, step, workflow
from cerebelum_nb.classroom import Lesson, World

Begin = Callable[[str], Lesson]


class Store:
    """The store of events that lesson A asks for."""

    def __init__(self, path):
        self.db = sqlite3.connect(path)
        self.db.execute("create table if not exists event (stream, version, type, data, primary key (stream, version))")

    def append(self, stream, version, kind, data=None):
        with self.db:
            self.db.execute("insert into event values (?, ?, ?, ?)", (stream, version, kind, json.dumps(data)))

    def read(self, stream):
        rows = self.db.execute("select type, data from event where stream = ? order by version", (stream,))
        return [(kind, json.loads(data)) for kind, data in rows]


class Forgetful(Store):
    def append(self, stream, version, kind, data=None): ...


class Mixed(Store):
    def read(self, stream):
        return [(kind, json.loads(data)) for kind, data in self.db.execute("select type, data from event")]


class Conflict(Exception):  # noqa: N818 - as the lesson calls it
    pass


class Safe(Store):
    def append(self, stream, version, kind, data=None):
        try:
            super().append(stream, version, kind, data)
        except sqlite3.IntegrityError:
            raise Conflict from None


class Overwriting(Store):
    def append(self, stream, version, kind, data=None):
        with self.db:
            self.db.execute(
                "insert or replace into event values (?, ?, ?, ?)", (stream, version, kind, json.dumps(data))
            )


def engine(fold, result=lambda made: made):
    def run(steps, path):
        store = Safe(path)
        try:
            events = store.read("order-1")
            results, version = fold(events), len(events)
            for each in steps:
                if each.__name__ not in results:
                    results[each.__name__] = result(each(results))
                    version += 1
                    told = {"step": each.__name__, "result": results[each.__name__]}
                    store.append("order-1", version, "StepCompleted", told)
            return results
        finally:
            store.db.close()

    return run


def right_fold(events):
    return {data["step"]: data["result"] for _, data in events}


def test_a_store_appends_and_reads_by_stream(begin: Begin) -> None:
    lesson = begin("lesson-A")
    assert "nothing is in the table" in repr(lesson.check(1, Forgetful))
    assert "two events were appended to order-1" in repr(lesson.check(1, Mixed))
    assert "write `append`" in repr(lesson.check(1, ...))
    assert lesson.check(1, Store)


def test_the_second_writer_of_a_version_is_refused_by_a_conflict(begin: Begin) -> None:
    lesson = begin("lesson-A")
    assert "got IntegrityError" in repr(lesson.check(2, Store))
    assert "the event of the first writer" in repr(lesson.check(2, Overwriting))
    assert lesson.check(2, Safe)


def test_an_engine_calls_no_step_again_that_is_finished(begin: Begin) -> None:
    lesson = begin("lesson-A")
    assert "was called again" in repr(lesson.check(3, engine(lambda events: {})))
    assert "the results should be" in repr(lesson.check(3, engine(right_fold, lambda made: made.upper())))
    assert lesson.check(3, engine(right_fold))


@pytest.mark.parametrize(("name", "number", "right"), [("lesson-A", 4, "b"), ("lesson-D", 3, "c")])
def test_a_question_has_one_right_answer(begin: Begin, name: str, number: int, right: str) -> None:
    lesson = begin(name)
    for letter in {*"abcdx"} - {right}:
        assert not lesson.check(number, letter)
    assert lesson.check(number, right)


telephone = {"works": True}
lost = {"hotel": False}


@step
def book_flight(inputs):
    return "flight"


@book_flight.on_rollback
def cancel_flight(book_flight):
    if not telephone["works"]:
        raise ConnectionError("the airline does not answer")


@step
def book_hotel(book_flight):
    return "hotel in Lima"


@book_hotel.on_rollback
def cancel_hotel(book_hotel, inputs):
    if not lost["hotel"]:
        World(inputs["world"]).note("cancel " + book_hotel)


@step
def book_nothing(book_flight):
    return "nothing"


@step
def pay():
    raise ValueError("the card was declined")


@workflow
def trip(wf):
    wf.timeline(book_flight >> book_hotel >> pay)


@workflow
def second_trip(wf):
    wf.timeline(book_flight >> book_hotel >> pay)


def roll_back(lesson: Lesson, flow) -> str:
    with pytest.raises(WorkflowError) as failed:
        flow.run({"world": str(lesson.world.path)})
    flow.rollback_sync(failed.value.execution_id)
    return failed.value.execution_id


@pytest.fixture(autouse=True)
def as_at_first() -> Iterator[None]:
    telephone["works"], lost["hotel"] = True, False
    yield
    telephone["works"], lost["hotel"] = True, False


def test_the_hotel_is_cancelled_and_the_log_and_the_world_say_so(begin: Begin) -> None:
    lesson = begin("lesson-B")
    assert "roll the trip back" in repr(lesson.check(1))

    def without(wf):
        wf.timeline(book_flight >> book_nothing >> pay)

    roll_back(lesson, workflow(name="trip")(without))
    assert "the hotel is still booked" in repr(lesson.check(1))
    assert "do exercise 1 first" in repr(lesson.check(2, ["book_flight"]))
    lost["hotel"] = True
    roll_back(lesson, trip)
    assert "nobody cancelled the hotel" in repr(lesson.check(1))
    lost["hotel"] = False
    roll_back(lesson, trip)
    assert lesson.check(1)
    assert "booked last" in repr(lesson.check(2, ["book_flight", "book_hotel"]))
    assert lesson.check(2, ["book_hotel", "book_flight"])


def test_a_rollback_that_failed_half_way_undoes_the_rest(begin: Begin) -> None:
    lesson = begin("lesson-B")
    roll_back(lesson, second_trip)
    assert "call the rollback again" in repr(lesson.check(3, 1)), "it did not fail half way"
    telephone["works"] = False
    with pytest.raises(WorkflowError) as failed:
        second_trip.run({"world": str(lesson.world.path)})
    with pytest.raises(WorkflowError):
        second_trip.rollback_sync(failed.value.execution_id)
    telephone["works"] = True
    second_trip.rollback_sync(failed.value.execution_id)
    assert "Does a completed step run again?" in repr(lesson.check(3, 2))
    assert lesson.check(3, 1)


@step
def charge(inputs):
    if inputs["amount"] > 100:
        raise ValueError("the bank refuses")
    return "paid"


@step
def ship(charge):
    return "parcel"


@workflow
def order(wf):
    wf.timeline(charge >> ship)


MODULE = "\n\n".join(
    ["from cerebelum_nb import step, workflow", *map(inspect.getsource, (charge.fn, ship.fn, order.fn))]
)


def test_a_test_has_to_pass_and_to_be_able_to_fail(begin: Begin) -> None:
    lesson = begin("lesson-C")

    def asks_the_bank(workflows):
        assert workflows.run(order, {"amount": 500}).output == "parcel"

    def looks_at_nothing(workflows):
        workflows.run(order, {"amount": 500}, doubles={charge: "paid"})

    def right(workflows):
        assert workflows.run(order, {"amount": 500}, doubles={charge: "paid"}).output == "parcel"

    assert "is there a double of `charge`?" in repr(lesson.check(1, asks_the_bank))
    assert "runs nothing" in repr(lesson.check(1, lambda workflows: None))
    assert "loses the parcel, too" in repr(lesson.check(1, looks_at_nothing))
    assert lesson.check(1, right)


def test_after_a_crash_only_what_was_at_work_starts_again(begin: Begin) -> None:
    lesson = begin("lesson-C")
    assert "both `...`" in repr(lesson.check(2, [..., 2]))
    assert "had finished before the crash" in repr(lesson.check(2, [2, 2]))
    assert "Count its first start" in repr(lesson.check(2, [1, 1]))
    assert lesson.check(2, [1, 2])


def test_a_module_is_proved_by_the_code_that_ran(begin: Begin, tmp_path: Path) -> None:
    lesson, module = begin("lesson-C"), tmp_path / "shop.py"
    assert "there is no shop.py" in repr(lesson.check(3, str(module)))
    module.write_text(MODULE)
    assert "no run completed this code of charge, ship" in repr(lesson.check(3, str(module)))
    order.run({"amount": 40})
    module.write_text(MODULE.replace('"parcel"', '"a letter"'))
    assert "this code of ship:" in repr(lesson.check(3, str(module)))
    module.write_text(MODULE)
    assert lesson.check(3, str(module))


@step
def buy():
    return "flour"


@step
def mix(buy):
    return "dough"


@step
def heat(buy):
    return "oven"


@step
def bake(mix, heat):
    return "bread"


@workflow
def bread(wf):
    wf.timeline(buy >> [mix, heat] >> bake)


def test_what_comes_next_is_the_next_stage(begin: Begin) -> None:
    lesson = begin("lesson-D")
    assert "what stands behind `buy`" in repr(lesson.check(1, ["bake"]))
    assert lesson.check(1, ["heat", "mix"])


def test_a_decide_function_is_called_at_every_event(begin: Begin) -> None:
    lesson = begin("lesson-D")

    def right(stages, started, finished):
        stage = next((stage for stage in stages if not {*stage} <= {*finished}), [])
        return [name for name in stage if name not in started]

    def starts_again(stages, started, finished):
        return next((stage for stage in stages if not {*stage} <= {*finished}), [])

    assert "run the bread first" in repr(lesson.check(2, right))
    bread.run()
    assert "after event 2, with ['buy'] started" in repr(lesson.check(2, starts_again))
    assert "your function says None" in repr(lesson.check(2, lambda stages, started, finished: None))
    assert lesson.check(2, right)
