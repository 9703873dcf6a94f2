"""What steps receive and return: copies, live objects, secrets."""

from __future__ import annotations

import concurrent.futures
import datetime as dt
import functools
import threading
import traceback
import warnings

import pandas as pd
import pytest

from cerebelum_nb import DependencyError, Secret, SharedValueWarning, WorkflowError, flow, step, workflow

TOKEN = "tok-5ecret-9431"


def timeline(*items):
    """Make a workflow of a timeline."""
    return workflow(name="w")(lambda wf: wf.timeline(*items))


@step
async def config():
    return {"ports": [80], "name": "web"}


@step
def members():
    return {1, 2}


# -- arguments ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, 0, False, "", [], {}, "text", 1.5, [{"a": None}], (1, 2), {1}, b"x"], ids=repr)
def test_a_step_receives_exactly_what_the_other_returned(store, go, value):
    seen = []
    first = step(name="first")(lambda: value)
    second = step(name="second")(lambda first: seen.append(first))
    go(timeline(first >> second).execute(store=store))
    assert seen == [value] and type(seen[0]) is type(value)


def test_results_are_read_by_step(store, go):
    result = go(timeline(config >> members).execute(store=store))
    assert dict(result.results) == {"config": {"ports": [80], "name": "web"}, "members": {1, 2}}


def test_the_output_is_the_value_of_the_last_step(store, go):
    assert go(timeline(config >> members).execute(store=store)).output == {1, 2}


def test_inputs_reach_every_step_that_asks(store, go):
    sized = step(name="sized")(lambda inputs: inputs["size"])
    told = step(name="told")(lambda context: context.inputs["size"])
    result = go(timeline(sized >> told).execute({"size": 3}, store=store))
    assert dict(result.results) == {"sized": 3, "told": 3}


def test_without_inputs_they_are_empty(store, go):
    assert go(timeline(step(name="x")(lambda inputs: inputs)).execute(store=store)).output == {}


def test_the_context_tells_where_a_step_is(store, go):
    @step
    def told(context):
        return [context.execution_id, context.workflow_name, context.step_name, context.attempt, context.visit]

    result = go(timeline(told).execute(store=store, execution_id="k1"))
    assert result.output == ["k1", "w", "told", 1, 1]


def test_the_key_of_idempotency_is_that_of_the_visit(store, go):
    @step(retries=1)
    def pay(context):
        if context.attempt == 1:
            raise ConnectionError
        return context.idempotency_key

    assert go(timeline(pay).execute(store=store, execution_id="k1")).output == "k1:pay:1"


def test_double_star_receives_every_earlier_result(store, go):
    @step
    def report(config, **others):
        return sorted(others)

    first = step(name="first")(lambda: 1)
    assert go(timeline(first >> config >> members >> report).execute(store=store)).output == ["first", "members"]


def test_an_optional_dependency_has_its_default_when_the_step_was_skipped(store, go):
    skipped = step(name="skipped")(lambda: "ran")
    user = step(name="user")(lambda skipped="default": skipped)

    @workflow
    def w(wf):
        wf.timeline(config >> skipped >> user)
        wf.diverge(from_step=config, patterns={"ok": flow.skip_to(user)})

    assert go(w.execute(store=store)).output == "default"


def test_an_optional_dependency_has_its_default_when_the_step_failed(store, go):
    @step
    def risky():
        raise ConnectionError

    user = step(name="user")(lambda risky="default": risky)

    @workflow
    def w(wf):
        wf.timeline(risky >> user)
        wf.diverge(from_step=risky, patterns={"error": flow.proceed()})

    assert go(w.execute(store=store)).output == "default"


def test_a_required_dependency_that_was_skipped_is_an_error(store, fails):
    skipped = step(name="skipped")(lambda: "ran")
    user = step(name="user")(lambda skipped: skipped)

    @workflow
    def w(wf):
        wf.timeline(config >> skipped >> user)
        wf.diverge(from_step=config, patterns={"ok": flow.skip_to(user)})

    error = fails(w.execute(store=store))
    assert isinstance(error.__cause__, DependencyError)
    assert (error.__cause__.step, error.__cause__.dependency) == ("user", "skipped")
    assert "was skipped" in str(error) and "default" in str(error)


def test_a_missing_dependency_is_not_retried(store, fails, kinds_of):
    skipped = step(name="skipped")(lambda: "ran")
    user = step(name="user", retries=3)(lambda skipped: skipped)

    @workflow
    def w(wf):
        wf.timeline(config >> skipped >> user)
        wf.diverge(from_step=config, patterns={"ok": flow.skip_to(user)})

    fails(w.execute(store=store, execution_id="k1"))
    assert kinds_of(store, "k1", "StepRetried") == []


# -- copies -------------------------------------------------------------------------------------------------


def test_each_consumer_has_its_own_copy_of_json(store, go):
    @step
    def spoil(config):
        config["ports"].append(666)

    ports = step(name="ports")(lambda config: config["ports"])
    assert go(timeline(config >> spoil >> ports).execute(store=store)).output == [80]


def test_parallel_consumers_have_their_own_copies(store, go):
    @step
    async def one(config):
        config["name"] = "one"
        return config["name"]

    @step
    async def two(config):
        return config["name"]

    assert go(timeline(config >> [one, two]).execute(store=store)).results["two"] == "web"


def test_inputs_are_copied_too(store, go):
    spoil = step(name="spoil")(lambda inputs: inputs["tags"].append("x"))
    tags = step(name="tags")(lambda inputs: inputs["tags"])
    assert go(timeline(spoil >> tags).execute({"tags": []}, store=store)).output == []


def test_a_result_is_a_copy_each_time_it_is_read(store, go):
    result = go(timeline(config).execute(store=store))
    result.output["name"] = "spoilt"
    assert result.output["name"] == "web"


@step
def raw():
    return bytearray(b"abc")


@pytest.mark.filterwarnings("always")
def test_changing_a_value_in_place_is_told_and_seen_by_nobody(store, go):
    @step
    def spoil(raw):
        raw.append(66)

    counted = step(name="counted")(lambda raw: len(raw))
    with pytest.warns(SharedValueWarning, match="step 'spoil' changed the .*bytearray it got from 'raw'.*copy"):
        result = go(timeline(raw >> spoil >> counted).execute(store=store))
    assert result.output == 3


@pytest.mark.filterwarnings("always")
def test_a_change_by_a_step_that_takes_everything_is_noticed_too(store, go):
    @step
    def spoil(**results):
        results["raw"].append(66)

    counted = step(name="counted")(lambda raw: len(raw))
    with pytest.warns(SharedValueWarning, match="step 'spoil'"):
        result = go(timeline(raw >> spoil >> counted).execute(store=store))
    assert result.output == 3


@pytest.mark.filterwarnings("always")
def test_a_change_by_an_attempt_that_failed_is_noticed_too(store, go):
    @step(retries=1)
    def spoil(raw, context):
        found = len(raw)
        raw.append(context.attempt)
        if context.attempt == 1:
            raise ConnectionError
        return found

    with pytest.warns(SharedValueWarning):
        assert go(timeline(raw >> spoil).execute(store=store)).output == 3


def test_a_shared_value_that_nobody_changes_is_no_cause_to_warn(store, go):
    counted = step(name="counted")(lambda members: len(members))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        go(timeline(members >> counted).execute(store=store))


def test_a_restored_value_that_nobody_changes_is_no_cause_to_warn(memory, go, fails):
    """The pickle of a value may differ from that of its copy, as the order of a set does."""
    fixed = []

    @step
    def sparse():
        numbers = set(range(1000))
        for number in range(1000):
            if number not in (1, 8):
                numbers.discard(number)
        return numbers

    @step
    def reads(sparse):
        return sorted(sparse) if fixed else 1 / 0

    flow_ = timeline(sparse >> reads)
    fails(flow_.execute(store=memory, execution_id="k1"))
    fixed.append(1)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert go(flow_.resume("k1", store=memory)).output == [1, 8]
    assert [warning for warning in told if warning.category is SharedValueWarning] == []


@pytest.mark.parametrize("index", [False, True])
def test_what_pandas_remembers_of_times_that_were_read_is_no_change(memory, go, index):
    times = [pd.date_range("2026", periods=2), pd.period_range("2026", periods=2, freq="M")]

    @step
    def dates():
        return times if index else [pd.Series(made) for made in times]

    @step
    def reads(dates):
        return [repr(dates), [made.max() for made in dates]]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        go(timeline(dates >> reads).execute(store=memory))


def test_a_warning_that_is_made_an_error_hangs_nothing(store, go):
    @step
    def spoil(raw):
        raw.append(66)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises((SharedValueWarning, WorkflowError)):
            go(timeline(raw >> spoil).execute(store=store))


class Model:
    def __init__(self):
        self.rows = [1, 2, 3]

    @functools.cached_property
    def total(self):
        return sum(self.rows)


def told_by(store, go, make, use):
    """Return the warnings about steps that receive what ``make`` returned, and whether the second saw it unchanged."""
    made = step(name="made")(make)
    first = step(name="first")(lambda made: use(made) and None)
    second = step(name="second")(lambda made, first: repr(vars(made)) if hasattr(made, "__dict__") else repr(made))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        seen = go(timeline(made >> first >> second).execute(store=store)).output
    whole = make()
    assert seen == (repr(vars(whole)) if hasattr(whole, "__dict__") else repr(whole))
    return [str(one.message).partition(" it got")[0] for one in told if one.category is SharedValueWarning]


def test_reading_a_cached_property_is_no_change(store, go):
    assert told_by(store, go, lambda: Model(), lambda made: made.total) == []


def test_a_change_behind_a_cached_property_is_told(store, go):
    told = told_by(store, go, lambda: Model(), lambda made: made.total and made.rows.append(4))
    assert told == [f"step 'first' changed the {__name__}.Model"]


def test_reading_a_frame_is_no_change(store, go):
    def make():
        frame = pd.DataFrame({"mixed": [1, "a"]})
        frame["n"] = 1
        frame["m"] = 2
        return frame

    assert told_by(store, go, lambda: {"frame": make()}, lambda made: made["frame"].describe().size) == []


@pytest.mark.parametrize(
    "extra",
    [{"day": dt.date(2026, 1, 2)}, {"pair": (1, 2)}, {"blob": bytearray(b"x")}, {"token": Secret("s3cr3t-token")}],
    ids=["a date", "a tuple", "pickled", "a secret"],
)
def test_inputs_are_nobody_elses_whatever_they_hold(store, go, extra):
    def spoiling(inputs, context):
        inputs["options"]["n"] = 99
        context.inputs["options"]["n"] = 98

    spoil = step(name="spoil")(spoiling)
    read = step(name="read")(lambda inputs, spoil: inputs["options"]["n"])
    mine = {"options": {"n": 1}, **extra}
    assert go(timeline(spoil >> read).execute(mine, store=store)).output == 1
    assert mine["options"] == {"n": 1}


def test_a_result_with_a_secret_is_copied_for_each_step(store, go):
    login = step(name="login")(lambda: {"token": Secret(TOKEN), "tags": []})
    spoil = step(name="spoil")(lambda login: login["tags"].append(login["token"].reveal()))
    read = step(name="read")(lambda login, spoil: [len(login["tags"]), len(login["token"].reveal())])
    assert go(timeline(login >> spoil >> read).execute(store=store)).output == [0, len(TOKEN)]


def test_a_step_that_changes_what_it_returned_changes_nothing(store, go):
    kept = []

    @step
    def made():
        kept.append(bytearray(b"abc"))
        return kept[0]

    @step
    def read(made):
        kept[0].clear()
        return len(made)

    again = step(name="again")(lambda made, read: len(made))
    assert go(timeline(made >> read >> again).execute(store=store)).output == 3


# -- what cannot be stored ----------------------------------------------------------------------------------


def test_a_result_that_cannot_be_stored_fails_its_step_with_its_path(store, fails):
    made = step(name="made")(lambda: {"conn": {"lock": threading.Lock()}})
    error = fails(timeline(made).execute(store=store))
    assert error.failed_step == "made" and "output['conn']['lock']" in str(error) and "keep=False" in str(error)


def connection_flow(ready):
    """A live connection, and a step that uses it once ``ready`` says so."""
    made = []

    @step(keep=False)
    def connect():
        made.append(threading.Lock())
        return made[-1]

    @step
    def use(connect):
        if not ready:
            raise ConnectionError("not ready")
        return connect in made

    other = step(name="other")(lambda: 1)
    return timeline(connect >> other >> use), made


def test_a_result_that_is_not_kept_lives_during_the_run(store, go):
    flow_, _ = connection_flow([1])
    assert go(flow_.execute(store=store)).output is True


def test_a_result_that_is_not_kept_is_made_again_when_a_resume_needs_it(store, go, fails):
    ready = []
    flow_, made = connection_flow(ready)
    error = fails(flow_.execute(store=store))
    ready.append(1)
    assert go(flow_.resume(error.execution_id, store=store)).output is True
    assert len(made) <= 2


def test_a_result_that_is_not_kept_is_not_made_again_when_nobody_needs_it(store, go, fails):
    ready, runs = [], []

    @step(keep=False)
    def connect():
        runs.append(1)
        return threading.Lock()

    @step
    def use(connect):
        return 1

    @step
    def later(use):
        return use + bool(ready or 1 / 0)

    flow_ = timeline(connect >> use >> later)
    error = fails(flow_.execute(store=store))
    ready.append(1)
    go(flow_.resume(error.execution_id, store=store))
    assert runs == [1]


# -- secrets ------------------------------------------------------------------------------------------------


def written(store):
    """All that the log holds, as text."""
    if store.location != ":memory:":
        from pathlib import Path

        here = Path(store.location)
        files = [here, here.with_name(here.name + "-wal")]
        return b"".join(file.read_bytes() for file in files if file.exists())
    rows = store.executions()[0]
    texts = [repr(row) for row in rows] + [repr(event) for row in rows for event in store.events(row.execution_id)]
    return "".join(texts).encode() + b"".join(store._payloads.values())


def test_a_secret_input_can_be_revealed_by_a_step(store, go):
    @step
    def used(inputs):
        return len(inputs["token"].reveal())

    assert go(timeline(used).execute({"token": Secret(TOKEN)}, store=store)).output == len(TOKEN)


def leaky(how):
    """Make a workflow whose step leaks the token in some way."""
    from cerebelum_nb import poll, retry, sleep

    @step(retries=1)
    async def leak(inputs, context):
        token = inputs["token"].reveal()
        tries = iter([f"{token} is busy", f"{token} is ready"])

        def fail_once():
            if next(tries).endswith("busy"):
                raise ConnectionError(f"bad token {token}")
            return f"got {token}"

        match how:
            case "result":
                return {"url": f"https://x/?t={token}"}
            case "raised":
                if context.attempt == 1:
                    raise ValueError(f"refused {token}")
            case "returned error":
                return {"error": f"refused {token}"}
            case "poll":
                await poll(lambda: next(tries), interval=1, success_condition=lambda r: r.endswith("ready"))
            case "retry":
                await retry(fail_once, delay=1)
            case "run":
                await context.run("call", lambda text: f"answer to {text}", token)
            case "sleep":
                await sleep(1, data={"waiting for": token})
            case "route":
                return {"status": token}
        return None

    return workflow(name="w")(
        lambda wf: wf.timeline(leak) or wf.diverge(from_step=leak, patterns={"_": flow.proceed()})
    )


@pytest.mark.parametrize(
    "how", ["inputs", "result", "raised", "returned error", "poll", "retry", "run", "sleep", "route"]
)
def test_a_secret_is_never_written(store, go, how):
    said = []
    try:
        go(leaky(how).execute({"token": Secret(TOKEN), "size": 1}, store=store))
    except WorkflowError as error:
        said.append(str(error))
    assert TOKEN not in "".join(said)
    assert store.executions()[1] == 1
    assert TOKEN.encode() not in written(store)


def reading(reads):
    @step
    def first(inputs):
        return inputs["size"]

    @step
    def second(inputs):
        if not reads.get("ready"):
            raise ConnectionError
        return inputs["token"].reveal() if reads["token"] else "unread"

    return timeline(first >> second)


def in_a_new_process(store):
    """Forget what this process remembers of the store's executions."""
    from cerebelum_nb._engine.leases import _by_store
    from cerebelum_nb._engine.remembered import _kept

    _by_store.pop(store, None)
    _kept.pop(store, None)


def test_a_resume_in_this_process_still_has_the_secret(store, go, fails):
    reads = {"token": True}
    error = fails(reading(reads).execute({"token": Secret(TOKEN), "size": 1}, store=store))
    reads["ready"] = True
    result = go(reading(reads).resume(error.execution_id, store=store))
    assert result.status == "COMPLETED"


def test_a_resume_in_a_new_process_asks_for_a_secret_that_is_read(store, go, fails):
    reads = {"token": True}
    error = fails(reading(reads).execute({"token": Secret(TOKEN), "size": 1}, store=store))
    reads["ready"] = True
    in_a_new_process(store)
    again = fails(reading(reads).resume(error.execution_id, store=store))
    assert "'token'" in str(again) and "inputs=" in str(again)


def test_a_resume_in_a_new_process_does_not_ask_for_a_secret_that_is_not_read(store, go, fails):
    reads = {"token": False}
    error = fails(reading(reads).execute({"token": Secret(TOKEN), "size": 1}, store=store))
    reads["ready"] = True
    in_a_new_process(store)
    assert go(reading(reads).resume(error.execution_id, store=store)).output == "unread"


def test_a_secret_can_be_given_again(store, go, fails):
    reads = {"token": True}
    error = fails(reading(reads).execute({"token": Secret(TOKEN), "size": 1}, store=store))
    reads["ready"] = True
    in_a_new_process(store)
    again = {"token": Secret(TOKEN)}
    assert go(reading(reads).resume(error.execution_id, inputs=again, store=store)).status == "COMPLETED"
    assert TOKEN.encode() not in written(store)


# -- secrets in results -------------------------------------------------------------------------------------


def logging_in(world):
    """Make a workflow whose first step returns a secret, and whose last step fails until the world is ready."""

    @step
    def log_in():
        world["logins"] = world.get("logins", 0) + 1
        return {"user": "ada", "token": Secret(TOKEN), "url": f"https://x/?{TOKEN}"}

    @step
    def greet(log_in):
        if not world.get("ready"):
            raise ValueError("not yet")
        match world["reads"]:
            case "token":
                return log_in["token"].reveal()
            case "url":
                return log_in["url"].upper()
        return log_in["user"]

    return timeline(log_in >> greet)


def after_a_failure(world, store, fails):
    return fails(logging_in(world).execute(store=store, execution_id="k1")).execution_id


def test_a_result_with_a_secret_is_kept_by_a_resume_in_a_new_process(store, go, fails):
    world = {"reads": "user"}
    after_a_failure(world, store, fails)
    in_a_new_process(store)
    world["ready"] = True
    assert go(logging_in(world).resume("k1", store=store)).output == "ada"
    assert world["logins"] == 1


@pytest.mark.parametrize("reads", ["token", "url"])
def test_only_who_opens_the_secret_of_a_result_is_told_how_to_have_it_again(store, go, fails, reads):
    world = {"reads": reads}
    after_a_failure(world, store, fails)
    in_a_new_process(store)
    world["ready"] = True
    error = fails(logging_in(world).resume("k1", store=store))
    assert f"The secret at '{reads}' in the result of step 'log_in' of execution k1 is not in this process" in str(
        error
    )
    assert 'await wf.resume("k1", rerun=["log_in"])' in str(error)
    again = go(logging_in(world).resume("k1", rerun=["log_in"], store=store))
    assert again.status == "COMPLETED"
    assert world["logins"] == 2
    assert TOKEN.encode() not in written(store)


def test_a_resume_in_this_process_still_has_the_secret_of_a_result(store, go, fails):
    world = {"reads": "token"}
    after_a_failure(world, store, fails)
    world["ready"] = True
    assert go(logging_in(world).resume("k1", store=store)).status == "COMPLETED"
    assert world["logins"] == 1


def test_the_secret_of_a_kept_result_is_masked_in_a_resume_in_this_process_too(store, fails):
    @step
    def log_in():
        return {"token": Secret(TOKEN)}

    @step
    def use(log_in):
        raise ValueError(f"no luck with {log_in['token'].reveal()}")

    made = timeline(log_in >> use)
    fails(made.execute(store=store, execution_id="k1"))
    fails(made.resume("k1", store=store))
    fails(made.fork("k1", store=store))
    assert TOKEN.encode() not in written(store)


GLOBAL = Secret("glob-sekret-value-1")


@pytest.mark.parametrize("where", ["a global", "a default", "a closure", "a thread of a pool"])
def test_a_secret_that_a_step_reveals_is_masked_wherever_it_came_from(store, go, where, capsys):
    mine = Secret("glob-sekret-value-1")

    @step
    def fetch(context):
        match where:
            case "a global":
                found = GLOBAL.reveal()
            case "a thread of a pool":
                with concurrent.futures.ThreadPoolExecutor() as pool:
                    found = pool.submit(GLOBAL.reveal).result()
            case _:
                found = mine.reveal()
        print("using", found)
        return {"url": f"https://host/?key={found}"}

    if where == "a default":
        fetch = step(name="fetch")(lambda key=mine: print("using", key.reveal()) or {"url": "?" + key.reveal()})
    go(timeline(fetch).execute(store=store))
    assert b"glob-sekret" not in written(store)
    shown = capsys.readouterr()
    assert "using ********" in shown.out and "glob-sekret" not in shown.out + shown.err


def test_a_secret_in_the_name_of_an_operation_is_masked_and_the_operation_found_again(store, go):
    done = []

    @step(retries=1)
    async def call(inputs, context):
        await context.run("call " + inputs["token"].reveal(), lambda: done.append(1))
        if context.attempt == 1:
            raise ConnectionError

    go(timeline(call).execute({"token": Secret(TOKEN)}, store=store))
    assert done == [1] and TOKEN.encode() not in written(store)


class RefusedError(Exception):
    """An error that keeps its arguments."""

    def __init__(self, url):
        super().__init__("refused")
        self.url = url

    def __str__(self):
        return f"refused: {self.url}"


class StubbornError(Exception):
    """An error whose text cannot be changed."""

    def __str__(self):
        return f"bad token {TOKEN}"


@pytest.mark.parametrize("kind", ["args", "attribute", "file name", "note", "cause", "group", "stubborn"])
def test_a_traceback_shows_no_secret(store, fails, kind):
    def raising(inputs):
        token = inputs["token"].reveal()
        match kind:
            case "args":
                raise KeyError({"key": token}, token)
            case "attribute":
                raise RefusedError(f"https://x/?{token}")
            case "file name":
                raise FileNotFoundError(2, "No such file", f"/tmp/{token}")
            case "note":
                error = ValueError("no")
                error.add_note(f"with {token}")
                raise error
            case "cause":
                raise ValueError("no") from ConnectionError(token)
            case "group":
                raise ExceptionGroup("two", [ValueError(token), RefusedError(token)])
            case "stubborn":
                raise StubbornError

    error = fails(timeline(step(name="raising")(raising)).execute({"token": Secret(TOKEN)}, store=store))
    shown = "".join(traceback.format_exception(error))
    assert TOKEN not in shown and "********" in shown and "in raising" in shown


def test_a_traceback_without_a_secret_is_left_as_it_is(store, fails):
    raised = ValueError("no", {"a": 1})

    def raising(inputs):
        raise raised

    error = fails(timeline(step(name="raising")(raising)).execute({"token": Secret(TOKEN)}, store=store))
    assert error.__cause__ is raised and raised.args == ("no", {"a": 1})


def one_return():
    rows = (n for n in range(3))
    return {"rows": [rows]}


def two_returns(context):
    if context.attempt > 1:
        return 1
    return threading.Lock()


@pytest.mark.parametrize(("function", "line"), [(one_return, 2), (two_returns, 0)])
def test_what_cannot_be_stored_is_told_at_the_line_that_returned_it(store, fails, function, line):
    error = fails(timeline(step(name="made")(function)).execute(store=store))
    (frame,) = [f for f in traceback.extract_tb(error.__cause__.__traceback__) if f.filename == __file__]
    assert (frame.name, frame.lineno) == (function.__name__, function.__code__.co_firstlineno + line)
    assert "pickle.py" not in error.details
