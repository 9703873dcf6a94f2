"""A workflow driven by hand: events in, commands out, without a clock, a store or running steps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cerebelum_nb._core import events as e
from cerebelum_nb._core.decide import Jump, Position, StartStep, decide
from cerebelum_nb._core.fold import evolve, fold
from cerebelum_nb._core.graph import Action, ActionKind, Branch, Diverge, Each, Plan, StepSpec, owner_of
from cerebelum_nb._core.invariants import check
from cerebelum_nb._core.items import outcome_of_items
from cerebelum_nb._core.portions import at_once
from cerebelum_nb._core.value import ErrorInfo, Value


def path(text):
    """Read ``a >> [b, c] >> d`` as a path."""
    return tuple(tuple(part.strip(" []").replace(" ", "").split(",")) for part in text.split(">>"))


def action(text):
    """Read ``back_to a``, ``retry 3``, ``fail too bad``, ``end`` as a flow action, anything else as a path."""
    if text is None:
        return ()
    kind, _, argument = text.partition(" ")
    if kind not in set(ActionKind):
        return path(text)
    match ActionKind(kind):
        case ActionKind.BACK_TO | ActionKind.SKIP_TO:
            return Action(ActionKind(kind), argument)
        case ActionKind.RETRY:
            return Action(ActionKind.RETRY, max_attempts=int(argument))
        case _:
            return Action(ActionKind(kind), reason=argument)


def spec(name, **options):
    return StepSpec(name=name, fn=print, is_async=True, **options)


def make_plan(timeline, *, branch=None, diverge=None, specs=(), max_jumps=1000, each=None):
    """Make a plan from texts.

    ``branch={"a": ("when true", "when false")}``, ``diverge={"a": {"label": "path or action"}}``,
    ``each={"b": "a", "c": ("a", "fetch >> c", 2)}``: its source, its body, and how many items run at once.
    """
    stages = path(timeline)
    branches = {n: Branch(n, bool, action(yes), action(no)) for n, (yes, no) in (branch or {}).items()}
    diverges = {
        n: Diverge(n, {label: (label, action(text)) for label, text in choices.items()})
        for n, choices in (diverge or {}).items()
    }
    named = {n: None for stage in stages for n in stage}
    targets = [t for b in branches.values() for t in (b.when_true, b.when_false)]
    targets += [t for d in diverges.values() for _, t in d.choices.values()]
    for target in targets:
        if not isinstance(target, Action):
            named.update(dict.fromkeys(n for stage in target for n in stage))
    each = {n: (how, n, 99) if isinstance(how, str) else how for n, how in (each or {}).items()}
    sources = {n: spec(n, requires=(source,)) for n, (source, _, _) in each.items()}
    steps = {n: spec(n) for n in named} | sources | {s.name: s for s in specs}
    own = {s.name: s for s in specs}
    return Plan(
        workflow="w",
        timeline=stages,
        steps=steps,
        branches=branches,
        diverges=diverges,
        max_jumps=max_jumps,
        stage_of={n: i for i, stage in reversed(list(enumerate(stages))) for n in stage},
        each={
            n: Each(
                source=source,
                parameter="item",
                body={part: own.get(part) or spec(part) for (part,) in path(body)},
                at_once=at_once,
                collect=n.startswith("collected"),
            )
            for n, (source, body, at_once) in each.items()
        },
    )


class Machine:
    """One execution of one plan.

    After every event the state keeps its invariants, and a run that starts from the history alone decides the same.
    """

    def __init__(self, timeline, **how):
        self.plan = timeline if isinstance(timeline, Plan) else make_plan(timeline, **how)
        self.history = []
        self.state = fold([])
        self.at = Position.at_start(self.plan)
        self.commands = []
        self.feed(e.WorkflowStarted(at=0, workflow="w", inputs=Value("json", "{}"), total_steps=1))

    def feed(self, *events):
        """Fold events, and return what should happen now."""
        for event in events:
            event = replace(event, at=len(self.history) + 1)
            self.history.append(event)
            evolve(self.state, event)
            check(self.state)
        self.commands = decide(self.plan, self.state, self.at)
        assert fold(self.history) == self.state
        assert self.decided_afresh() == self.commands, "a resumed run would go another way"
        return self.commands

    def decided_afresh(self):
        return decide(self.plan, fold(self.history), Position.at_start(self.plan))

    @property
    def to_start(self):
        """The names of the steps that should start now."""
        assert all(isinstance(command, StartStep) for command in self.commands), self.commands
        return [command.step for command in self.commands]

    def header(self, name):
        step = self.state.step(name)
        return {"at": 0, "step": name, "visit": step.visit, "attempt": step.attempt}

    def list(self, name, *keys):
        """Name the items of a foreach."""
        step = self.state.steps.get(name)
        return self.feed(e.ItemsListed(at=0, step=name, visit=step.visit if step else 1, keys=keys))

    def close(self):
        """Record the outcome of a foreach."""
        (command,) = self.commands
        return self.feed(at_once(outcome_of_items(self.plan, self.state, command.step, 0)))

    def start(self, *names):
        for name in names:
            step, owner = self.state.step(name), self.state.steps.get(owner_of(name))
            visit, attempt = (step.visit, step.attempt + 1) if step else (owner.visit if owner else 1, 1)
            self.feed(e.StepStarted(at=0, step=name, visit=visit, attempt=attempt))
        return self.commands

    def done(self, *names, output="null", start=True):
        """Complete steps, starting them first."""
        for name in names:
            if start:
                self.start(name)
            self.feed(e.StepCompleted(**self.header(name), output=Value("json", output)))
        return self.commands

    def failed(self, name, message="no"):
        self.start(name)
        return self.feed(e.StepFailed(**self.header(name), error=ErrorInfo(type="Bad", message=message)))

    def diverged(self, name, choice):
        return self.feed(e.DivergeTaken(**self.header(name), choice=choice))

    def branched(self, name, choice):
        return self.feed(e.BranchTaken(**self.header(name), choice=choice))

    def jump(self):
        """Carry out the jump that was decided."""
        (command,) = self.commands
        assert isinstance(command, Jump), command
        header = self.header(command.step)
        return self.feed(e.Jumped(**header, kind=command.kind, to=command.to, reset=command.reset))

    def resume(self, **how):
        """Resume it in a new process."""
        self.at = Position.at_start(self.plan)
        return self.feed(e.WorkflowResumed(at=0, **how))


@pytest.fixture
def machine():
    return Machine


@pytest.fixture
def plan_of():
    return make_plan


@pytest.fixture
def spec_of():
    return spec
