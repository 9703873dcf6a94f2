"""Inputs with a shape: every problem at once, conversions, defaults, and what the log holds."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, Literal, NotRequired, Optional, TypedDict

import pytest

from cerebelum_nb import (
    InputsError,
    Secret,
    SecretMissingError,
    WorkflowDefinitionError,
    foreach,
    history,
    step,
    workflow,
)
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb._values.shape import shape_of
from cerebelum_nb._workflow.load import load_script
from cerebelum_nb.testing import MemoryStore


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Region:
    name: str
    servers: int = 1


@dataclass
class Deploy:
    size: Literal["small", "large"]
    count: int = 1
    share: float = 0.5
    dry: bool = False
    colour: Colour = Colour.RED
    regions: list[Region] = field(default_factory=list)
    day: date | None = None
    rest: timedelta = timedelta(seconds=5)
    path: Path = Path("here")
    price: Decimal = Decimal("1.10")
    labels: dict[str, int] = field(default_factory=dict)
    pair: tuple[int, str] = (1, "a")
    token: Optional[Secret[str]] = None  # noqa: UP045 - an older way to write it
    more: Any = None


class Typed(TypedDict):
    size: str
    count: NotRequired[int]


def take(cls, given):
    return shape_of(cls, "w").take(given)


def test_defaults_apply_and_text_is_converted():
    taken, problems = take(
        Deploy,
        {
            "size": "small",
            "count": "3",
            "share": 1,
            "dry": "true",
            "colour": "blue",
            "regions": [{"name": "ams3", "servers": 2}, Region("nyc1")],
            "day": "2026-11-29",
            "rest": "2 days",
            "labels": {"a": "1"},
            "pair": ["2", "b"],
        },
    )
    assert not problems
    assert taken == {
        "size": "small",
        "count": 3,
        "share": 1.0,
        "dry": True,
        "colour": "blue",
        "regions": [{"name": "ams3", "servers": 2}, {"name": "nyc1", "servers": 1}],
        "day": "2026-11-29",
        "rest": 172800.0,
        "path": "here",
        "price": "1.10",
        "labels": {"a": 1},
        "pair": [2, "b"],
        "token": None,
        "more": None,
    }


def test_recorded_inputs_become_the_class_again():
    shape = shape_of(Deploy, "w")
    given = {"size": "large", "colour": "blue", "regions": [{"name": "ams3"}], "day": "2026-11-29", "rest": "1h"}
    made = shape.make(shape.take(given)[0])
    assert made == Deploy(
        "large", colour=Colour.BLUE, regions=[Region("ams3")], day=date(2026, 11, 29), rest=timedelta(hours=1)
    )
    assert shape.take(shape.as_given(made)) == shape.take(given)


def test_all_problems_are_reported_at_once():
    _, problems = take(
        Deploy,
        {
            "size": "medium",
            "count": 1.5,
            "share": "much",
            "dry": 1,
            "colour": "green",
            "regions": [{"nam": "ams3"}, 7],
            "day": "soon",
            "labels": {"a": "x"},
            "pair": [1],
            "cuont": 2,
        },
    )
    assert problems == [
        "size is 'medium', not one of 'small', 'large'",
        "count is 1.5, not a whole number",
        "share is 'much', not a number",
        "dry is 1, not true or false",
        "colour is 'green', not one of 'red', 'blue'",
        "regions[0].name is missing: give text",
        "regions[0].nam is not an input. Did you mean 'name'?",
        "regions[1] is 7, not Region",
        "day is 'soon', not a date, such as 2026-11-29",
        "labels['a'] is 'x', not a whole number",
        "pair is [1], not a list",
        "cuont is not an input. Did you mean 'count'?",
    ]
    assert take(Deploy, {})[1] == ["size is missing: give one of 'small', 'large'"]


def test_a_typed_dict_stays_a_dict():
    shape = shape_of(Typed, "w")
    assert shape.take({"size": "s", "count": "2"}) == ({"size": "s", "count": 2}, [])
    assert shape.make({"size": "s"}) == {"size": "s"}
    assert shape.take({"count": 1})[1] == ["size is missing: give text"]


def test_a_pydantic_model_checks_itself():
    pydantic = pytest.importorskip("pydantic", reason="pydantic is not installed")

    class Model(pydantic.BaseModel):
        size: int = pydantic.Field(ge=1)
        token: pydantic.SecretStr | None = None

    shape = shape_of(Model, "w")
    taken, problems = shape.take({"size": "3", "token": "abc123"})
    assert not problems and taken["size"] == 3 and isinstance(taken["token"], Secret)
    assert shape.make(taken).token.get_secret_value() == "abc123"
    assert shape.take({"size": 0})[1] == ["size is 0: input should be greater than or equal to 1"]
    assert shape.take({})[1] == ["size is missing"]
    assert shape.schema()["properties"]["size"]["minimum"] == 1


def test_the_schema_is_json_schema():
    told = shape_of(Deploy, "w").schema()
    assert told["required"] == ["size"] and told["additionalProperties"] is False
    assert told["properties"]["size"] == {"enum": ["small", "large"]}
    assert told["properties"]["count"] == {"type": "integer", "default": 1}
    assert told["properties"]["regions"]["items"]["properties"]["name"] == {"type": "string"}
    assert told["properties"]["day"]["anyOf"][0] == {"type": "string", "format": "date"}


def test_the_schema_has_no_secret_is_json_and_ends():
    @dataclass
    class Access:
        password: Secret = field(default_factory=lambda: Secret("hush-hush"))

    @dataclass
    class Node:
        access: Access = field(default_factory=Access)
        most: float = float("inf")
        below: list[Node] = field(default_factory=list)

    told = shape_of(Node, "w", locals()).schema()["properties"]
    assert told["below"] == {"type": "array", "items": {"title": "Node", "type": "object"}, "default": []}
    assert told["most"] == {"type": "number"} and "default" not in told["access"]


def test_an_argument_of_the_command_line_is_text_if_the_field_is():
    @dataclass
    class Release:
        version: str
        count: int
        when: datetime

    shape = shape_of(Release, "w")
    assert shape.read("version", "1.10", 1.1) == "1.10"
    assert shape.take({"version": "1", "count": shape.read("count", "3", 3), "when": "2026-11-29T06:00"})[1] == []


@pytest.mark.parametrize("wrong", [dict, 3, "Deploy", list[int]])
def test_what_is_not_a_shape_is_refused(wrong):
    with pytest.raises(
        WorkflowDefinitionError, match="inputs= must be a dataclass, a TypedDict or a pydantic model, not"
    ):
        workflow(inputs=wrong)(lambda wf: None)


# -- in a workflow ------------------------------------------------------------------------------------------


@step
def count(inputs, context):
    assert inputs == context.inputs
    return inputs.count


@step
def visit(region):
    return f"{region.name}: {region.servers}"


@workflow(inputs=Deploy)
def deploy(wf):
    wf.timeline(count >> foreach(visit, region="inputs.regions"))


def test_steps_receive_the_class_and_the_log_has_plain_values():
    log = MemoryStore()
    result = deploy.run({"size": "small", "count": "2", "regions": [{"name": "ams3"}]}, store=log, execution_id="k1")
    assert result.results["count"] == 2 and result.output == ["ams3: 1"]
    assert '"count":2' in log.events("k1")[0].inputs.json
    assert deploy.run(Deploy("small", 4), store=log).results["count"] == 4


def test_nothing_runs_with_inputs_that_do_not_fit():
    log = MemoryStore()
    with pytest.raises(InputsError) as caught:
        deploy.run({"count": "x"}, store=log)
    assert str(caught.value) == (
        "the inputs do not fit Deploy, 2 problems:\n  - size is missing: give one of 'small', 'large'\n"
        "  - count is 'x', not a whole number"
    )
    assert pickle.loads(pickle.dumps(caught.value)).problems == caught.value.problems
    assert log.executions()[1] == 0


def test_a_foreach_over_an_input_that_the_class_does_not_have_cannot_run():
    @workflow(inputs=Deploy)
    def wrong(wf):
        wf.timeline(foreach(visit, region="inputs.region"))

    (told,) = wrong.validate().errors
    assert told == "foreach(visit) runs over the input 'region', which Deploy does not have. Did you mean 'regions'?"


def test_an_instance_is_not_an_input_of_a_workflow_that_takes_a_typed_dict():
    @workflow(inputs=Typed)
    def typed(wf):
        wf.timeline(count)

    with pytest.raises(TypeError, match="inputs must be a dict of names to values"):
        typed.run(Deploy("small"), store=MemoryStore())


def test_new_inputs_of_a_resume_and_a_fork_are_checked_too():
    log = MemoryStore()
    deploy.run({"size": "small", "count": 2}, store=log, execution_id="k1")
    with pytest.raises(InputsError, match="count is 'x', not a whole number"):
        deploy.fork_sync("k1", inputs={"count": "x"}, store=log)
    assert deploy.fork_sync("k1", inputs={"count": "7"}, store=log).results["count"] == 7
    with pytest.raises(InputsError, match="size is 1, not one of"):
        deploy.resume_sync("k1", False, {"size": 1}, store=log)


def test_an_id_runs_once_with_equal_inputs_however_they_are_written():
    log = MemoryStore()
    first = deploy.run({"size": "small"}, store=log, execution_id="k1", resume=True)
    assert deploy.run({"size": "small", "count": "1"}, store=log, execution_id="k1", resume=True).output == first.output


def test_a_secret_given_as_text_stays_out_of_the_log():
    log = MemoryStore()
    deploy.run({"size": "small", "token": "abc123"}, store=log, execution_id="k1")
    assert "abc123" not in repr(log.events("k1"))


def test_a_missing_secret_is_valid_until_it_is_revealed():
    shape = shape_of(Deploy, "w")
    taken, problems = shape.take({"size": "small", "token": Secret.missing("token")})
    assert not problems and str(taken["token"]) == "********"
    with pytest.raises(SecretMissingError):
        shape.make(taken).token.reveal()


def test_a_loaded_script_may_declare_its_inputs_with_annotations_as_text(tmp_path):
    (tmp_path / "ship.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "from cerebelum_nb import Secret, step, workflow\n"
        "@dataclass\nclass Part:\n    token: Secret[str]\n@dataclass\nclass Ship:\n    parts: list[Part]\n"
        "@step\ndef count(inputs): return len(inputs.parts)\n"
        "@workflow(inputs=Ship)\ndef ship(wf): wf.timeline(count)\n"
    )
    ship = load_script(tmp_path / "ship.py").ship
    assert ship.run({"parts": [{"token": "a"}]}, store=MemoryStore()).output == 1


def test_a_trial_gives_a_step_the_class_that_it_declares(tmp_path):
    @step
    def doubled(inputs: Deploy):
        return inputs.count * 2

    @workflow(inputs=Deploy)
    def double(wf):
        wf.timeline(doubled)

    with SqliteStore(tmp_path / "log.db") as log:
        double.run({"size": "small", "count": 4}, store=log)
        assert history.try_step(doubled, store=log)["changed"].tolist() == [False]


def test_without_a_class_inputs_are_a_dict():
    @workflow
    def plain(wf):
        wf.timeline(count)

    assert plain.inputs_schema() == {"type": "object"} and deploy.inputs_schema()["title"] == "Deploy"
