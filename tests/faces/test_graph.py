"""The picture of a workflow: exact text, SVG that parses, sizes, and nothing that overlaps."""

from __future__ import annotations

import itertools
import sys
from xml.etree import ElementTree

import pytest

from cerebelum_nb import flow, step, workflow
from cerebelum_nb._core.graph import Plan
from cerebelum_nb._text.style import MARKS
from cerebelum_nb._views.graph import Graph
from cerebelum_nb._views.layout import HEIGHT, lay_out


def made(name):
    @step(name=name)
    def nothing():
        return None

    return nothing


def routed(wf):
    build, test, lint, package, smoke, report = map(made, ("build", "test", "lint", "package", "smoke", "report"))
    wf.timeline(build >> [test, lint] >> package >> smoke >> report)
    wf.branch(after=package, on=bool, when_true=[made("extra")], when_false=flow.fail("no room"))
    wf.diverge(
        from_step=smoke,
        patterns={TimeoutError: flow.back_to(build), "limit": made("apologise") >> report, "x": made("y")},
    )


def chain(wf):
    steps = [made(f"step_number_{n}") for n in range(200)]
    line = steps[0] >> steps[1]
    for following in steps[2:]:
        line = line >> following
    wf.timeline(line)


def fan(wf):
    wf.timeline(made("first") >> [made(f"sibling_{n}") for n in range(200)] >> made("last"))


def nested(wf):
    first, second, third = map(made, ("first", "second", "third"))
    wf.timeline(first >> third)
    wf.branch(after=first, on=bool, when_true=second >> made("after_second"), when_false=flow.proceed())
    wf.branch(after=second, on=bool, when_true=[made("deep")], when_false=flow.end())


WORKFLOWS = [routed, chain, fan, nested]


def graph(definition):
    return Graph(workflow(definition).plan())


def test_the_text_names_steps_groups_and_routes():
    assert graph(routed).to_text().splitlines() == [
        "routed",
        "  build",
        "  ├ test",
        "  └ lint",
        "  package",
        "    yes -> extra",
        "    no -> fail(no room)",
        "  smoke",
        "    TimeoutError => back_to(build)",
        "    limit => apologise >> report",
        "    x => y",
        "  report",
    ]


def test_mermaid_has_every_step_and_route():
    assert graph(routed).to_mermaid().splitlines() == [
        "flowchart LR",
        *(f'    n{i}["{name}"]' for i, name in enumerate(
            ["build", "test", "lint", "package", "extra", "smoke", "apologise", "report", "y"]
        )),
        '    e0(["fail(no room)"])',
        "    n0 --> n1",
        "    n0 --> n2",
        "    n1 --> n3",
        "    n2 --> n3",
        '    n3 -- "yes" --> n4',
        '    n3 -- "no" --> e0',
        "    n4 --> n5",
        '    n5 -. "TimeoutError" .-> n0',
        '    n5 -- "limit" --> n6',
        "    n6 --> n7",
        '    n5 -- "x" --> n8',
        "    n5 --> n7",
    ]  # fmt: skip


@pytest.mark.parametrize("definition", WORKFLOWS)
def test_the_svg_is_well_formed_and_names_every_step(definition):
    picture = graph(definition)
    states = dict(zip(picture.plan.steps, itertools.cycle(MARKS), strict=False))
    for svg in (picture.to_svg(), picture.to_svg(states)):
        root = ElementTree.fromstring(svg)
        texts = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
        assert texts >= {*picture.plan.steps}
        assert len(svg.encode()) < 60_000


@pytest.mark.parametrize("definition", WORKFLOWS)
def test_nothing_overlaps_and_everything_is_inside(definition):
    layout = lay_out(workflow(definition).plan())
    for node in layout.nodes:
        assert node.x >= 0 and node.x + node.width <= layout.width + 1
        assert node.y >= 0 and node.y + HEIGHT <= layout.height + 1
    for a, b in itertools.combinations(layout.nodes, 2):
        apart = a.x + a.width <= b.x or b.x + b.width <= a.x or a.y + HEIGHT <= b.y or b.y + HEIGHT <= a.y
        assert apart, (a, b)


def test_long_names_are_cut_and_shown_whole_on_hover():
    def long(wf):
        wf.timeline(made("a_step_whose_name_is_longer_than_any_box"))

    svg = graph(long).to_svg()
    assert "<title>a_step_whose_name_is_longer_than_any_box</title>" in svg
    assert "a_step_whose_name_is_long…" in svg


def test_labels_are_escaped():
    def odd(wf):
        wf.timeline(first := made("first"))
        wf.diverge(from_step=first, patterns={'a<b & "c"': flow.fail("<no>")})

    texts = [element.text for element in ElementTree.fromstring(graph(odd).to_svg()).iter()]
    assert 'a<b & "c"' in texts and "fail: <no>" in texts
    assert "a&lt;b &amp; &quot;c&quot;" in graph(odd).to_mermaid()


def test_every_state_has_its_own_sign_and_shape():
    assert len({mark.sign for mark in MARKS.values()}) == len(MARKS)
    assert len({mark.shape for mark in MARKS.values()}) == len(MARKS)


@pytest.mark.parametrize("mark", MARKS.values(), ids=MARKS)
def test_the_text_in_a_box_is_legible_on_its_ground(mark):
    assert contrast("#1c1c1c", mark.ground) > 7
    assert contrast(mark.colour, mark.ground) > 3


def contrast(a, b):
    """WCAG 2's contrast ratio."""

    def light(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((light(a), light(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_a_workflow_shows_its_graph_and_a_broken_one_says_so():
    shown = workflow(routed)._repr_mimebundle_()
    assert set(shown) == {"image/svg+xml", "text/plain"}
    assert workflow(routed).to_mermaid().startswith("flowchart LR")

    @workflow
    def broken(wf):
        wf.timeline(5)

    assert broken._repr_mimebundle_() == {"text/plain": repr(broken)}


def test_the_work_of_a_step_in_the_picture_does_not_grow_with_their_number():
    def calls(count):
        made = 0

        def see(frame, event, argument):
            nonlocal made
            made += 1

        graph = Graph(Plan(workflow="w", timeline=tuple((f"s{n}",) for n in range(count)), steps={}))
        sys.setprofile(see)
        try:
            graph.to_svg()
        finally:
            sys.setprofile(None)
        return made / count

    assert calls(800) < 1.2 * calls(100)
