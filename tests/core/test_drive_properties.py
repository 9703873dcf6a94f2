"""Random plans, driven by a shell that answers in any order, and is interrupted or dies anywhere.

What a step does depends only on its name, visit and attempt. So in whichever order messages arrive, and however often
the driver is made again from the recorded events, the run ends with the same results.
"""

from __future__ import annotations

import zlib
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from cerebelum_nb._core import events as e
from cerebelum_nb._core.drive import Driver
from cerebelum_nb._core.fold import fold
from cerebelum_nb._core.graph import Action, ActionKind, Branch, Diverge, Plan, Policy, StepSpec
from cerebelum_nb._core.invariants import check
from cerebelum_nb._core.messages import (
    AskRoute,
    Begin,
    CancelAttempts,
    Due,
    End,
    Leave,
    Lost,
    Released,
    Routed,
    SetTimer,
    Settled,
    Start,
    Stop,
)
from cerebelum_nb._core.settle import Raised, settle, tries_again
from cerebelum_nb._core.state_name import ExecutionState
from cerebelum_nb._core.value import ErrorInfo, Value

BAD = ErrorInfo(type="Bad", message="no")
INPUTS = Value("json", "{}")


@st.composite
def plans(draw):
    """Draw a timeline of groups, with branches, divergences and loops that end."""
    sizes = draw(st.lists(st.sampled_from([1, 1, 1, 2, 3]), min_size=1, max_size=5))
    timeline = tuple(tuple(f"t{i}{'abc'[j]}" for j in range(size)) for i, size in enumerate(sizes))
    alone = [stage[0] for stage in timeline if len(stage) == 1]
    branches, diverges, count = {}, {}, iter(range(99))
    names = [name for stage in timeline for name in stage]

    def side():
        """A path off the timeline."""
        path = tuple(tuple(f"p{next(count)}" for _ in range(n)) for n in draw(st.sampled_from([[1], [1, 1], [1, 2]])))
        names.extend(name for stage in path for name in stage)
        return path

    for i, stage in enumerate(timeline):
        for name in stage:
            behind = [n for n in alone if any(n in other for other in timeline[: i + 1])]
            ahead = [n for n in alone if any(n in other for other in timeline[i + 1 :])]
            route = draw(st.sampled_from(["", "", "", "branch", "path", "loop", "skip", "end", "retry"]))
            target = None
            if route == "branch":
                branches[name] = Branch(name, bool, side(), side() if draw(st.booleans()) else ())
            elif route == "path":
                target = side()
            elif route == "loop" and behind:
                target = Action(ActionKind.BACK_TO, draw(st.sampled_from(behind)))
            elif route == "skip" and ahead:
                target = Action(ActionKind.SKIP_TO, draw(st.sampled_from(ahead)))
            elif route == "retry":
                target = Action(ActionKind.RETRY, max_attempts=5)
            elif route == "end":
                target = Action(ActionKind.END)
            if target is not None:
                diverges[name] = Diverge(name, {"go": ("go", target)})
    policies = {name: Policy(retries=draw(st.integers(0, 2)), retry_delay=1) for name in names}
    return Plan(
        workflow="w",
        timeline=timeline,
        steps={name: StepSpec(name=name, fn=print, is_async=True, policy=policies[name]) for name in names},
        branches=branches,
        diverges=diverges,
        stage_of={name: i for i, stage in enumerate(timeline) for name in stage},
    )


class Shell:
    """A minimal shell: it keeps its commands, and carries them out in a drawn order."""

    def __init__(self, plan, seed, most=None):
        self.plan, self.seed, self.most = plan, seed, most
        self.history, self.now = [], 0
        self.ended = False
        self.completed = Counter()
        self.begin(Begin([e.WorkflowStarted(at=0, workflow="w", inputs=INPUTS, total_steps=1)]))

    def begin(self, message):
        """A new process, which has only the history of the old one."""
        self.driver = Driver(self.plan, fold(self.history))
        self.open, self.zombies, self.ended = [], [], False
        self.tell(message)

    def tell(self, message):
        self.now += 1
        counted = self.driver.take(message, self.now)
        self.go_on()
        return counted

    def go_on(self):
        while True:
            commands = self.driver.advance(self.now, self.most)
            started = sum(isinstance(command, Start) for command in commands)
            assert self.most is None or started <= self.most + 1, "one goes on, and a portion of others starts"
            self.commit()
            for command in commands:
                self.carry_out(command)
            asked = [command for command in commands if isinstance(command, AskRoute)]
            if not asked:
                return
            assert commands[-1] == asked[0], "nothing is decided beside an open route"
            self.driver.take(Routed(self.route(asked[0].step)), self.now)

    def commit(self):
        for event in self.driver.committed():
            self.history.append(event)
            if isinstance(event, e.StepCompleted):
                self.completed[event.step, event.visit] += 1
        state = fold(self.history)
        check(state)
        assert state == self.driver.state

    def carry_out(self, command):
        match command:
            case Start():
                assert (command.step, command.visit, command.attempt) not in [
                    (s.step, s.visit, s.attempt) for s in self.open if isinstance(s, Start)
                ]
                assert command.step not in self.zombies, "an attempt started beside a thread that is at work"
                self.open.append(command)
            case SetTimer():
                self.open.append(command)
            case CancelAttempts():
                self.open.clear()
            case End():
                self.ended = True

    def chance(self, *of):
        return zlib.crc32(repr((self.seed, *of)).encode())

    def verdict(self, started):
        """The first attempts of some steps fail, the last one never does."""
        step = self.driver.state.steps[started.step]
        policy = self.plan.steps[started.step].policy
        if step.failures < policy.retries and self.chance("fails", started.step, started.visit, step.failures) % 3 == 0:
            return Raised(BAD, True)
        return Value("json", f'"{started.step}:{started.visit}"')

    def route(self, name):
        """A step leaves the timeline only in its first visits, so that every loop ends."""
        step = self.driver.state.steps[name]
        header = {"at": self.now, "step": name, "visit": step.visit, "attempt": step.attempt}
        if name in self.plan.diverges and not step.diverge_chosen:
            goes = step.visit <= self.chance("visits", name) % 3
            return e.DivergeTaken(**header, choice="go" if goes else None)
        return e.BranchTaken(**header, choice=bool(self.chance("branch", name, step.visit) % 2))

    def answer(self, index, alive):
        """Settle an attempt or fire a timer, whichever is drawn."""
        command = self.open.pop(index % len(self.open))
        if isinstance(command, SetTimer):
            self.now = max(self.now, command.due_at)
            return self.tell(Due(command.step))
        header = {"at": self.now, "step": command.step, "visit": command.visit, "attempt": command.attempt}
        failures = self.driver.state.steps[command.step].failures
        verdict = self.verdict(command)
        again = tries_again(self.plan.steps[command.step].policy, failures, verdict)
        event = settle(verdict, due_at=self.now + 1_000_000 if again else None, **header)
        alive = alive and isinstance(event, e.StepRetried)
        if alive:
            self.zombies.append(command.step)
        return self.tell(Settled(command.step, command.visit, command.attempt, [event], alive))

    def release(self):
        self.tell(Released(self.zombies.pop()))

    def finish(self):
        """Answer what is open until it ends."""
        for _ in range(2_000):
            if self.ended:
                return
            if self.zombies:
                self.release()
            elif self.open:
                self.answer(0, False)
            elif self.driver.has_more:
                self.go_on()
            else:
                raise AssertionError("it neither ended nor is anything in flight: it hangs")
        raise AssertionError("it does not end")

    @property
    def outcome(self):
        """Return the final state and each step's last result, but not how often something was interrupted."""
        state = self.driver.state
        return state.status, {name: step.output for name, step in state.steps.items() if step.has_result}


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(
            ["answer", "answer", "answer", "answer", "alive", "release", "die", "lose", "stop", "leave", "go on"]
        ),
        st.integers(0, 5),
    ),
    max_size=30,
)


def act(shell, action, index):
    if action == "die":
        shell.begin(Begin([e.WorkflowResumed(at=shell.now)]))
    elif action == "release":
        if shell.zombies:
            shell.release()
    elif action == "go on":
        shell.go_on()
    elif shell.ended or not shell.open:
        return
    elif action in ("answer", "alive"):
        assert shell.answer(index, action == "alive"), "an outcome of a running attempt was refused"
    elif action == "lose":
        lost = shell.open[index % len(shell.open)]
        if isinstance(lost, Start):
            shell.open.remove(lost)
            shell.tell(Lost(lost.step, lost.visit, lost.attempt, "its worker died"))
    else:
        shell.tell(Stop("by hand") if action == "stop" else Leave(None))
        while index % 2 and shell.driver.has_more:  # else it dies before all of it is interrupted
            shell.go_on()
        assert shell.ended or shell.driver.has_more
        shell.begin(Begin([e.WorkflowResumed(at=shell.now)]))


@settings(max_examples=4 * settings().max_examples)
@given(plans(), st.integers(0, 99), ACTIONS, st.sampled_from([1, 2, None]))
def test_however_messages_are_ordered_and_whatever_dies_the_run_ends_the_same(plan, seed, actions, most):
    straight = Shell(plan, seed)
    straight.finish()
    assert straight.outcome[0] is ExecutionState.COMPLETED

    shell = Shell(plan, seed, most)
    for action, index in actions:
        if shell.ended:
            break
        act(shell, action, index)
    shell.finish()
    while shell.driver.state.status is not ExecutionState.COMPLETED:  # paused, because a step was lost too often
        shell.begin(Begin([e.WorkflowResumed(at=shell.now)]))
        shell.finish()
    assert shell.outcome == straight.outcome
    assert set(shell.completed.values()) <= {1}, "a step was completed twice in one visit"


@settings(max_examples=2 * settings().max_examples)
@given(plans(), st.integers(0, 99), st.integers(0, 60))
def test_a_driver_made_from_any_prefix_of_the_history_ends_the_same(plan, seed, length):
    straight = Shell(plan, seed)
    straight.finish()
    again = Shell(plan, seed)
    again.history = straight.history[: 1 + length % len(straight.history)]
    if isinstance(again.history[-1], e.WorkflowCompleted):
        again.history.pop()
    again.completed.clear()
    again.begin(Begin([e.WorkflowResumed(at=again.now)]))
    again.finish()
    assert again.outcome == straight.outcome
