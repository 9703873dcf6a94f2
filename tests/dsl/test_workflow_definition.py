"""What a workflow's definition means and what is wrong with it: semantics, sections 1 and 2, before anything runs."""

from __future__ import annotations

import asyncio
import inspect

import pytest

from cerebelum_nb import StepDefinitionError, WorkflowDefinitionError, WorkflowError, flow, step, workflow
from cerebelum_nb._core.graph import Policy
from cerebelum_nb._workflow.decorator import registered
from cerebelum_nb.testing import MemoryStore


def named(name, **options):
    """Make a step that needs nothing."""

    def fn():
        return name

    return step(name=name, **options)(fn)


a, b, c, d, e = map(named, "abcde")


def plan_of(*items, **how):
    """Make the plan of a timeline; ``routes`` may add to the builder."""
    routes = how.pop("routes", lambda wf: None)

    @workflow(name="w", **how)
    def made(wf):
        wf.timeline(*items)
        routes(wf)

    return made.plan()


def report_of(describe):
    return workflow(name="w")(describe).validate()


def errors_of(describe):
    return report_of(describe).errors


def the_error(describe):
    (error,) = errors_of(describe)
    return error


# -- steps: their needs -------------------------------------------------------------------------------------


def needs(fn):
    spec = step(fn).spec()
    return spec.requires, spec.optional


def test_parameters_are_dependencies():
    def deploy(build, check):
        pass

    assert needs(deploy) == (("build", "check"), ())


def test_a_parameter_with_a_default_is_an_optional_dependency():
    def deploy(build, check=None):
        pass

    assert needs(deploy) == (("build",), ("check",))


def test_keyword_only_parameters_are_dependencies():
    def deploy(*, build, check=1):
        pass

    assert needs(deploy) == (("build",), ("check",))


@pytest.mark.parametrize("text", ["context, inputs, build", "build, inputs, context", "inputs, build, context"])
def test_context_and_inputs_are_reserved_in_any_position(text):
    spec = step(name="deploy")(eval(f"lambda {text}: None")).spec()
    assert (spec.requires, spec.takes_context, spec.takes_inputs) == (("build",), True, True)


def test_context_and_inputs_are_optional():
    spec = a.spec()
    assert not spec.takes_context and not spec.takes_inputs


def test_double_star_takes_the_rest():
    def report(**results):
        pass

    assert step(report).spec().takes_rest


def test_a_step_is_named_after_its_function():
    def fetch():
        pass

    assert step(fetch).name == "fetch"


def test_a_step_may_have_another_name():
    assert step(name="fetch")(lambda: 1).name == "fetch"


def test_a_step_that_is_called_runs_its_function():
    def double(n):
        return 2 * n

    assert step(double)(4) == 8


def test_an_async_step_that_is_called_is_awaited():
    @step
    async def double(n):
        return 2 * n

    assert asyncio.run(double(n=4)) == 8


def test_a_step_looks_like_its_function():
    @step
    def fetch(url):
        """Fetch it."""

    assert fetch.__doc__ == "Fetch it." and list(inspect.signature(fetch).parameters) == ["url"]


def test_a_policy_is_read_in_seconds():
    made = named("x", retries=2, retry_delay="1500ms", backoff=2, retry_on=OSError, timeout="1m", keep=False)
    assert made.policy == Policy(retries=2, retry_delay=1.5, backoff=2.0, retry_on=(OSError,), timeout=60.0, keep=False)


def test_bare_numbers_of_a_policy_are_seconds():
    policy = named("x", retry_delay=2, timeout=0.5).policy
    assert (policy.retry_delay, policy.timeout) == (2.0, 0.5)


def test_without_options_a_step_is_tried_once():
    assert a.policy == Policy()


# -- timelines ----------------------------------------------------------------------------------------------


def test_a_chain_is_a_sequence():
    assert plan_of(a >> b >> c).timeline == (("a",), ("b",), ("c",))


def test_a_list_in_a_chain_is_parallel():
    assert plan_of(a >> [b, c] >> d).timeline == (("a",), ("b", "c"), ("d",))


def test_a_chain_may_begin_with_a_list():
    assert plan_of([a, b] >> c).timeline == (("a", "b"), ("c",))


def test_a_chain_may_end_with_a_list():
    assert plan_of(a >> [b, c]).timeline == (("a",), ("b", "c"))


def test_lists_may_follow_each_other():
    assert plan_of(a >> [b, c] >> [d, e]).timeline == (("a",), ("b", "c"), ("d", "e"))


def test_a_tuple_is_as_good_as_a_list():
    assert plan_of(a >> (b, c)).timeline == (("a",), ("b", "c"))


def test_chains_join():
    assert plan_of((a >> b) >> (c >> d)).timeline == (("a",), ("b",), ("c",), ("d",))


def test_a_chain_can_be_used_twice():
    first = a >> b
    assert plan_of(first >> c).timeline == (("a",), ("b",), ("c",))
    assert plan_of(first >> d).timeline == (("a",), ("b",), ("d",))


def test_one_step_is_a_timeline():
    assert plan_of(a).timeline == (("a",),)


def test_a_bare_list_is_a_sequence():
    assert plan_of([a, b, c]).timeline == (("a",), ("b",), ("c",))


def test_a_list_in_a_bare_list_is_parallel():
    assert plan_of([a, [b, c], d]).timeline == (("a",), ("b", "c"), ("d",))


def test_several_arguments_follow_each_other():
    assert plan_of(a, b >> c).timeline == (("a",), ("b",), ("c",))


def test_several_calls_follow_each_other():
    def describe(wf):
        wf.timeline(a >> b)
        wf.timeline(c)

    assert workflow(describe).plan().timeline == (("a",), ("b",), ("c",))


def test_a_plan_knows_where_each_step_is():
    assert plan_of(a >> [b, c] >> d).stage_of == {"a": 0, "b": 1, "c": 1, "d": 2}


# -- branches -----------------------------------------------------------------------------------------------


def branch_of(**how):
    return plan_of(a >> b, routes=lambda wf: wf.branch(after=a, **how)).branches["a"]


def test_a_branch_takes_a_step_or_a_chain():
    made = branch_of(on=bool, when_true=c >> [d, e], when_false=None)
    assert (made.when_true, made.when_false) == ((("c",), ("d", "e")), ())


def test_condition_is_another_name_of_on():
    assert branch_of(condition=bool, when_true=c).predicate is bool


def test_a_branch_takes_a_flow_action():
    assert str(branch_of(on=bool, when_true=flow.skip_to(b)).when_true) == "skip_to(b)"


def test_one_side_of_a_branch_is_enough():
    assert branch_of(on=bool, when_false=c).when_true == ()


def test_branches_may_be_described_before_the_timeline():
    def describe(wf):
        wf.branch(after=a, on=bool, when_true=c)
        wf.timeline(a >> b)

    assert workflow(describe).plan().branches["a"].when_true == (("c",),)


def test_branches_nest():
    def routes(wf):
        wf.branch(after=a, on=bool, when_true=c)
        wf.branch(after=c, on=bool, when_true=d)

    assert set(plan_of(a >> b, routes=routes).branches) == {"a", "c"}


# -- diverges -----------------------------------------------------------------------------------------------


def choices_of(patterns):
    made = plan_of(a >> b, routes=lambda wf: wf.diverge(from_step=a, patterns=patterns))
    return {label: target for label, (_, target) in made.diverges["a"].choices.items()}


def test_a_diverge_keeps_the_order_of_its_patterns():
    assert list(choices_of({"z": c, "error": d, "_": e})) == ["z", "error", "_"]


def test_a_pattern_is_labelled_as_people_read_it():
    class RefusedError(Exception):
        pass

    def too_big(result):
        return result > 9

    labels = choices_of([(RefusedError, c), (too_big, c), ({"status": "x"}, c), (3, c)])
    assert list(labels) == ["RefusedError", "too_big", "{'status': 'x'}", "3"]


def test_two_patterns_with_the_same_label_are_distinguished():
    labels = choices_of([(lambda r: r == 1, c), (lambda r: r == 2, d)])
    assert labels == {"<lambda>": (("c",),), "<lambda>'": (("d",),)}


def test_patterns_may_be_added_in_several_calls():
    def routes(wf):
        wf.diverge(from_step=a, patterns={"x": c})
        wf.diverge(from_step=a, patterns={"y": d})

    assert list(plan_of(a >> b, routes=routes).diverges["a"].choices) == ["x", "y"]


def test_every_flow_action_is_a_target():
    targets = {
        "1": flow.back_to(a),
        "2": flow.skip_to(b),
        "3": flow.retry(),
        "4": flow.fail("bad"),
        "5": flow.end(),
        "6": flow.proceed(),
    }
    shown = [str(target) for target in choices_of(targets).values()]
    assert shown == ["back_to(a)", "skip_to(b)", "retry(3)", "fail(bad)", "end()", "proceed()"]


def test_a_flow_action_may_name_its_step_by_text():
    assert str(choices_of({"x": flow.skip_to("b")})["x"]) == "skip_to(b)"


def test_a_path_may_rejoin_the_timeline():
    assert choices_of({"x": c >> b})["x"] == (("c",), ("b",))


def test_a_routed_step_is_on_the_plan():
    plan = plan_of(a >> b, routes=lambda wf: wf.diverge(from_step=a, patterns={"x": c}))
    assert set(plan.steps) == {"a", "b", "c"}


# -- workflows ----------------------------------------------------------------------------------------------


def test_a_workflow_is_named_after_its_function():
    def deploy(wf):
        wf.timeline(a)

    assert workflow(deploy).name == "deploy"


def test_a_workflow_may_have_another_name():
    assert workflow(name="deploy all")(lambda wf: wf.timeline(a)).name == "deploy all"


def test_a_workflow_is_registered_by_module_and_name():
    made = workflow(name="registered one")(lambda wf: wf.timeline(a))
    assert registered()[__name__, "registered one"] is made


def test_a_workflow_shows_its_timeline():
    assert repr(workflow(name="w")(lambda wf: wf.timeline(a >> [b, c]))) == "<workflow w: a >> [b, c]>"


def test_a_workflow_that_cannot_run_shows_its_problems():
    shown = repr(workflow(name="w")(lambda wf: None))
    assert shown.startswith("<workflow w: 1 problem>\n  - the timeline is empty: call wf.timeline(")


def test_a_report_shows_what_is_wrong():
    assert repr(workflow(name="w")(lambda wf: None).validate()).startswith("- the timeline is empty: ")


def test_defining_a_workflow_evaluates_nothing():
    def deploy(wf):
        raise AssertionError("evaluated too early")

    workflow(deploy)


def test_the_limit_of_jumps_can_be_set():
    assert plan_of(a, max_jumps=7).max_jumps == 7


def test_the_limit_of_jumps_is_a_thousand():
    assert plan_of(a).max_jumps == 1000


# -- late binding -------------------------------------------------------------------------------------------


def notebook(*cells):
    """Run cells one after another in a namespace of their own."""
    names = {"step": step, "workflow": workflow, "__name__": "a_notebook"}
    for cell in cells:
        exec(cell, names)
    return names


TIMELINE = "@workflow\ndef w(wf):\n    wf.timeline(first >> second)"
FIRST = "@step\ndef first(): return 1"
BROKEN = "@step\ndef second(first): raise ValueError('broken')"
MENDED = "@step\ndef second(first): return first + 1"


def test_a_step_may_be_defined_after_the_workflow():
    cells = notebook(TIMELINE, FIRST, MENDED)
    assert asyncio.run(cells["w"].execute(store=MemoryStore())).output == 2


def test_a_step_that_was_defined_again_is_what_the_next_run_runs():
    cells = notebook(FIRST, MENDED, TIMELINE)
    exec(MENDED.replace("+ 1", "+ 10"), cells)
    assert asyncio.run(cells["w"].execute(store=MemoryStore())).output == 11


def test_a_step_that_was_defined_again_is_what_a_resume_runs():
    cells = notebook(FIRST, BROKEN, TIMELINE)
    store = MemoryStore()

    async def fail_and_fix():
        with pytest.raises(WorkflowError) as caught:
            await cells["w"].execute(store=store)
        exec(MENDED, cells)
        return await cells["w"].resume(caught.value.execution_id, store=store)

    assert asyncio.run(fail_and_fix()).output == 2


# -- what is wrong ------------------------------------------------------------------------------------------


def test_an_empty_timeline():
    assert "timeline is empty" in the_error(lambda wf: None)


def test_a_step_that_comes_back_is_shown_as_a_cycle():
    assert "a -> b -> a" in the_error(lambda wf: wf.timeline(a >> b >> a))


def test_a_long_cycle_is_shortened():
    steps = [named(f"s{i}") for i in range(20)]
    text = the_error(lambda wf: wf.timeline([*steps, steps[0]]))
    assert "s0 -> s1 -> s2 -> s3 -> ... -> s18 -> s19 -> s0" in text


def test_a_cycle_of_paths_off_the_timeline():
    def describe(wf):
        wf.timeline(a >> b)
        wf.diverge(from_step=a, patterns={"x": c})
        wf.diverge(from_step=c, patterns={"x": d})
        wf.diverge(from_step=d, patterns={"x": c})

    assert "c -> d -> c" in the_error(describe)


def test_a_path_that_leads_to_its_own_step():
    def describe(wf):
        wf.timeline(a >> b)
        wf.diverge(from_step=a, patterns={"x": c})
        wf.branch(after=c, on=bool, when_true=c)

    assert "c -> c" in the_error(describe)


def test_a_dependency_that_is_not_a_step_of_the_workflow():
    @step
    def deploy(build, zzz):
        pass

    build = named("build")
    assert the_error(lambda wf: wf.timeline(build >> deploy)).startswith("step 'deploy' needs 'zzz'")


def test_a_misspelt_dependency_gets_a_suggestion():
    @step
    def deploy(biuld):
        pass

    build = named("build")
    assert "Did you mean 'build'?" in the_error(lambda wf: wf.timeline(build >> deploy))


def test_a_misspelt_reserved_name_gets_a_suggestion():
    @step
    def deploy(contxt):
        pass

    assert "Did you mean 'context'?" in the_error(lambda wf: wf.timeline(deploy))


def test_a_misspelt_target_gets_a_suggestion():
    def describe(wf):
        wf.timeline(named("build") >> named("check") >> named("report"))
        wf.diverge(from_step=named("report"), patterns={"x": flow.back_to("chek")})

    assert any("Did you mean 'check'?" in text for text in errors_of(describe))


def user_of(*names, name="user", optional=()):
    """Make a step that needs others."""
    text = ", ".join([*names, *(f"{n}=None" for n in optional)])
    return step(name=name)(eval(f"lambda {text}: None"))


def test_a_dependency_that_comes_later():
    text = the_error(lambda wf: wf.timeline(user_of("a") >> a))
    assert "needs the result of 'a', which never runs before it" in text and "default" in text


def test_a_dependency_in_the_same_list():
    assert "never runs before it" in the_error(lambda wf: wf.timeline([[a, user_of("a")]]))


def test_steps_that_need_each_other_are_shown_as_a_cycle():
    text = "\n".join(errors_of(lambda wf: wf.timeline(user_of("y", name="x") >> user_of("x", name="y"))))
    assert "x -> y -> x" in text


def test_an_optional_dependency_may_come_later():
    assert report_of(lambda wf: wf.timeline(user_of(optional=["a"]) >> a)).ok


def test_a_dependency_may_come_later_in_a_loop():
    def describe(wf):
        wf.timeline(a >> user_of("b") >> b)
        wf.diverge(from_step=a, patterns={"x": flow.skip_to(b)})
        wf.diverge(from_step=b, patterns={"again": flow.back_to("user")})

    assert report_of(describe).ok


def test_a_dependency_on_a_branch_may_have_run():
    def describe(wf):
        wf.timeline(a >> user_of("c"))
        wf.branch(after=a, on=bool, when_true=c)

    assert report_of(describe).ok


def test_a_dependency_on_the_other_side_of_a_branch_can_never_have_run():
    def describe(wf):
        wf.timeline(a >> b)
        wf.branch(after=a, on=bool, when_true=c, when_false=user_of("c"))

    assert "never runs before it" in the_error(describe)


def test_a_dependency_on_a_diverge_that_never_comes_back_can_never_have_run():
    def describe(wf):
        wf.timeline(a >> user_of("c"))
        wf.diverge(from_step=a, patterns={"x": c})

    assert "never runs before it" in the_error(describe)


def test_a_dependency_on_a_diverge_that_rejoins_may_have_run():
    user = user_of("c")

    def describe(wf):
        wf.timeline(a >> b >> user)
        wf.diverge(from_step=a, patterns={"x": c >> user})

    assert report_of(describe).ok


def test_a_path_may_need_what_ran_before_it():
    def describe(wf):
        wf.timeline(a >> b)
        wf.diverge(from_step=b, patterns={"x": user_of("a", "b")})

    assert report_of(describe).ok


def test_a_step_twice_in_a_parallel_list():
    assert "'b' appears 2 times" in the_error(lambda wf: wf.timeline(a >> [b, b]))


def test_two_steps_with_the_same_name():
    text = errors_of(lambda wf: wf.timeline(a >> named("a")))[0]
    assert "two different steps are named 'a'" in text and "name=" in text


def test_one_step_in_two_variables_is_one_step():
    other = a
    assert "a -> a" in the_error(lambda wf: wf.timeline(a >> other))


def test_a_route_of_a_step_that_is_on_no_path():
    def describe(wf):
        wf.timeline(a)
        wf.branch(after=d, on=bool, when_true=e)

    assert "branch is at 'd'" in the_error(describe)


def test_a_branch_to_a_step_of_the_timeline():
    def describe(wf):
        wf.timeline(a >> b)
        wf.branch(after=a, on=bool, when_true=b)

    assert "flow.skip_to(b)" in the_error(describe)


def test_a_path_that_rejoins_at_a_member_of_a_list():
    def describe(wf):
        wf.timeline(a >> [b, c])
        wf.diverge(from_step=a, patterns={"x": d >> b})

    assert "inside a parallel list" in the_error(describe)


def test_a_path_that_continues_after_it_rejoined():
    def describe(wf):
        wf.timeline(a >> b)
        wf.diverge(from_step=a, patterns={"x": c >> b >> d})

    assert "end the path at 'b'" in the_error(describe)


@pytest.mark.parametrize(
    ("at", "action", "hint"),
    [
        (b, flow.skip_to(a), "use flow.back_to(a)"),
        (b, flow.skip_to(b), "use flow.back_to(b)"),
        (a, flow.back_to(b), "use flow.skip_to(b)"),
        (a, flow.skip_to(d), "parallel list in the middle"),
        (a, flow.skip_to("zzz"), "is on no path"),
    ],
    ids=str,
)
def test_a_jump_in_the_wrong_direction(at, action, hint):
    def describe(wf):
        wf.timeline(a >> b >> [c, d])
        wf.diverge(from_step=at, patterns={"x": action})

    assert hint in the_error(describe)


@pytest.mark.parametrize(
    ("at", "action", "hint"),
    [
        (d, flow.skip_to(c), "use flow.back_to(c)"),
        (c, flow.back_to(d), "use flow.skip_to(d)"),
        (b, flow.back_to(c), "of another path"),
    ],
    ids=str,
)
def test_a_jump_in_the_wrong_direction_on_a_path(at, action, hint):
    def describe(wf):
        wf.timeline(a >> b)
        wf.branch(after=a, on=bool, when_true=c >> d)
        wf.diverge(from_step=at, patterns={"x": action})

    assert hint in the_error(describe)


def test_the_direction_of_a_jump_from_a_path_follows_from_where_the_path_leaves_the_timeline():
    def describe(wf):
        wf.timeline(a >> b >> c)
        wf.diverge(from_step=b, patterns={"x": d})
        wf.diverge(from_step=d, patterns={"x": flow.skip_to(a)})

    assert "goes backwards" in the_error(describe)


def test_all_problems_are_reported_at_once():
    @step
    def deploy(biuld):
        pass

    def describe(wf):
        wf.timeline(a >> [b, b] >> deploy >> "c")
        wf.branch(after=a, on=3, when_true=d)
        wf.diverge(from_step=e, patterns={"x": d})

    text = "\n".join(errors_of(describe))
    assert all(part in text for part in ["2 times", "'biuld'", "'c' is text", "on= takes a function", "is at 'e'"])


def test_execute_raises_what_validate_reports():
    made = workflow(name="w")(lambda wf: wf.timeline(a >> b >> a))
    with pytest.raises(WorkflowDefinitionError) as caught:
        asyncio.run(made.execute(store=MemoryStore()))
    assert caught.value.errors == made.validate().errors
    assert "workflow 'w' cannot run, 1 problem:" in str(caught.value)


def test_nothing_is_recorded_for_a_workflow_that_cannot_run():
    store = MemoryStore()
    with pytest.raises(WorkflowDefinitionError):
        asyncio.run(workflow(name="w")(lambda wf: None).execute(store=store))
    assert store.executions() == ([], 0)


def test_what_a_workflow_function_raises_is_its_own_error():
    def describe(wf):
        wf.timeline(undefined_step)  # noqa: F821

    with pytest.raises(NameError, match="undefined_step"):
        report_of(describe)


# -- warnings ----------------------------------------------------------------------------------------------


def test_steps_that_no_route_leads_to_are_a_warning():
    def describe(wf):
        wf.timeline(a >> b >> c)
        wf.diverge(from_step=a, patterns={"_": flow.skip_to(c)})

    report = report_of(describe)
    assert report.ok and "step 'b' can never be reached" in report.warnings[0]


def test_patterns_after_anything_are_a_warning():
    def describe(wf):
        wf.timeline(a >> b)
        wf.diverge(from_step=a, patterns={"_": flow.proceed(), "x": c})

    assert any("pattern x is never reached" in text for text in report_of(describe).warnings)


def test_a_pattern_that_is_given_twice_is_a_warning():
    def describe(wf):
        wf.timeline(a >> b)
        wf.diverge(from_step=a, patterns=[("x", c), ("x", d)])

    assert any("pattern x is never reached" in text for text in report_of(describe).warnings)


def test_a_misspelt_optional_dependency_is_a_warning():
    build, user = named("build"), user_of(optional=["biuld"])
    report = report_of(lambda wf: wf.timeline(build >> user))
    assert report.ok and "Did you mean 'build'?" in report.warnings[0]


def test_a_parameter_with_a_default_that_is_not_a_step_gives_no_warning():
    assert report_of(lambda wf: wf.timeline(named("build") >> user_of(optional=["size"]))).warnings == ()


def test_a_sound_workflow_has_no_problems():
    report = report_of(lambda wf: wf.timeline(a >> [b, c] >> d))
    assert (report.ok, str(report)) == (True, "no problems")


def test_a_definition_error_is_a_cerebelum_error():
    assert issubclass(StepDefinitionError, Exception) and issubclass(WorkflowDefinitionError, Exception)
