"""How long each part of a run took: attempts and how they ended, waits, delays, and gaps without a process."""

from __future__ import annotations

import pytest

from cerebelum_nb._history.spans import Mark, covered, outside, timeline


def run(text):
    """Read ``5 StepStarted a`` per line: the time, the type, the step, ``#`` the attempt, ``@`` the operation."""
    marks = []
    for line in text.strip().splitlines():
        at, kind, *rest = line.split()
        said = {word[0] if word[0] in "#@" else "": word.lstrip("#@") for word in rest}
        mark = Mark(kind, int(at) * 1_000_000, said.get("", ""), attempt=int(said.get("#", 1)), op=said.get("@", ""))
        marks.append(mark)
    return timeline(marks)


def marked(spans):
    return [(span.kind, span.step, span.start // 1_000_000, span.end // 1_000_000) for span in spans]


def gaps(made):
    return [(start // 1_000_000, end // 1_000_000) for start, end in made.gaps]


def test_an_attempt_says_how_it_ended_and_a_delay_follows_a_retry():
    made = run("""
        0 StepStarted a
        2 StepRetried a
        5 StepStarted a #2
        9 StepCompleted a #2
        9 StepStarted b
        12 StepFailed b
        12 WorkflowFailed""")
    assert marked(made.attempts) == [("retried", "a", 0, 2), ("completed", "a", 5, 9), ("failed", "b", 9, 12)]
    assert marked(made.waits) == [("delay", "a", 2, 5)]
    assert made.steps == ["a", "b"]


def test_a_wait_lasts_until_it_or_its_step_ends():
    made = run("""
        0 StepStarted a
        1 SleepStarted a @sleep
        4 SleepCompleted a @sleep
        5 ApprovalRequested a @approval
        6 PollStarted a @poll
        8 ApprovalReceived a @approval
        9 StepCompleted a""")
    assert marked(made.waits) == [("sleep", "a", 1, 4), ("approval", "a", 5, 8), ("poll", "a", 6, 9)]


def test_there_is_a_gap_between_a_failure_and_the_resume():
    made = run("""
        0 StepStarted a
        2 StepFailed a
        2 WorkflowFailed
        50 WorkflowResumed
        50 StepStarted a #2
        51 StepCompleted a #2""")
    assert gaps(made) == [(2, 50)]


def test_an_attempt_of_a_process_that_died_ends_with_its_last_event():
    made = run("""
        0 StepStarted a
        3 StepProgressed a
        90 StepInterrupted a
        90 WorkflowResumed
        90 StepStarted a #2
        95 StepCompleted a #2""")
    assert marked(made.attempts) == [("interrupted", "a", 0, 3), ("completed", "a", 90, 95)]
    assert gaps(made) == [(3, 90)]


def test_an_attempt_of_a_process_that_died_ends_with_its_last_heartbeat_when_that_is_known():
    made = timeline(
        [
            Mark("StepStarted", 0, "a"),
            Mark("ApprovalReceived", 60, "a"),
            Mark("StepInterrupted", 90, "a", ended=40),
            Mark("WorkflowResumed", 90),
            Mark("StepStarted", 90, "a", attempt=2),
        ]
    )
    assert [(span.start, span.end) for span in made.attempts] == [(0, 40), (90, 90)]
    assert made.gaps == [(40, 90)]


def test_a_sleep_continues_while_no_process_runs_it():
    made = run("""
        0 StepStarted a
        1 SleepStarted a @sleep
        2 WorkflowHibernated
        60 StepInterrupted a
        60 WorkflowAwakened
        60 StepStarted a #2
        60 SleepStarted a @sleep
        61 SleepCompleted a @sleep
        62 StepCompleted a""")
    assert marked(made.attempts) == [("hibernated", "a", 0, 2), ("completed", "a", 60, 62)]
    assert marked(made.waits) == [("sleep", "a", 1, 61)]
    assert gaps(made) == [(2, 60)]


def test_a_stop_interrupts_and_the_time_until_the_resume_is_a_gap():
    made = run("""
        0 StepStarted a
        5 StepInterrupted a
        5 WorkflowPaused
        6 WorkflowResumed
        6 StepStarted a #2
        6 StepInterrupted a #2
        6 WorkflowPaused""")
    assert marked(made.attempts) == [("interrupted", "a", 0, 5), ("interrupted", "a", 6, 6)]
    assert gaps(made) == [(5, 6)]


def test_what_has_not_ended_lasts_until_the_last_event():
    made = run("0 StepStarted a\n0 StepStarted b\n1 SleepStarted b @sleep\n7 StepCompleted a")
    assert marked(made.attempts) == [("completed", "a", 0, 7), ("running", "b", 0, 7)]
    assert marked(made.waits) == [("sleep", "b", 1, 7)]


def test_a_step_done_by_hand_took_no_time():
    assert marked(run("3 StepCompleted a").attempts) == [("completed", "a", 3, 3)]


def test_a_run_without_events_has_an_empty_timeline():
    assert timeline([]).attempts == []


@pytest.mark.parametrize(
    ("one", "others", "left"),
    [((0, 9), [], [(0, 9)]), ((0, 9), [(0, 9)], []), ((0, 9), [(5, 20), (-3, 2)], [(2, 5)]), ((4, 4), [], [(4, 4)])],
)
def test_intervals_are_cut_out_of_one(one, others, left):
    assert outside(one, others) == left


def test_intervals_that_touch_are_joined():
    assert covered([(2, 3), (0, 1), (1, 2), (5, 6)]) == [(0, 3), (5, 6)]
