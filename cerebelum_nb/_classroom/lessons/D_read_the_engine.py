# %% [markdown] intro
# # Lesson D: Read the engine
#
# **Ten minutes, an elective.** You have done lessons 1 and 2. Afterwards you can
#
# - name the two pure functions that everything rests on,
# - say what the engine would do next at any event of a log, and
# - explain why a resume needs no code of its own.

# %% setup
import inspect

from cerebelum_nb import step, workflow
from cerebelum_nb._core.decide import Position, decide
from cerebelum_nb._core.fold import fold
from cerebelum_nb.classroom import Lesson

lesson = Lesson("lesson-D")
lesson

# %% [markdown] two-functions
# ## 1. Fold, then decide
#
# Two functions are the core of cerebelum_nb. `fold(events)` returns the state of a run. `decide(plan, state, position)`
# returns what should be in flight now. Neither reads a clock, a file or a random number: the same events give the same
# answer, here and on every machine. You need not read every line of it. Look at its arguments, and at what it returns at
# the end of its loop: a start for each step of the present stage that may start.

# %% source
print(inspect.getsource(decide))

# %% [markdown] bakery
# Here is a workflow, and a function that asks `decide` after the first `n` events of a run.

# %% workflow
@step
def buy(inputs):
    return "flour"


@step
def mix(buy):
    return "dough"


@step
def heat(buy):
    return "hot oven"


@step
def bake(mix, heat):
    return "bread"


@workflow
def bread(wf):
    wf.timeline(buy >> [mix, heat] >> bake)


result = await bread.execute({})
events = lesson.store.events(result.execution_id)


def next_commands(n):
    plan = bread.plan()
    return decide(plan, fold(events[:n]), Position.at_start(plan))


for n, (kind, name) in enumerate(lesson.events(result)[:2], 1):
    print(n, kind, name or "", "->", next_commands(n))

# %% [markdown] predict
# After event 2 the answer is empty: `buy` is at work, and there is nothing else to do.
#
# **Your turn.** Event 3 is the completion of `buy`. Imagine that the process dies right there, and another one reads
# these three events. Which steps will it start? Write their names into the list. Then ask the engine, in the cell below.

# %% prediction
started = ["mix", "heat"]  ### SOLUTION [...]

# %% ask
next_commands(3)

# %% check-1
lesson.check(1, started)

# %% [markdown] write
# ## 2. Write it yourself
#
# **Your turn.** Here is a small `decide` for workflows without routes. A **stage** is a list of steps that may run side by
# side. Complete it: return those steps of the first unfinished stage that were not started yet.

# %% my-decide
def my_decide(stages, started, finished):
    for stage in stages:
        if not all(name in finished for name in stage):
            ### BEGIN SOLUTION
            return [name for name in stage if name not in started]
            ### INSTEAD
            return []  # your code here
            ### END SOLUTION
    return []  # everything is finished


my_decide([["buy"], ["mix", "heat"], ["bake"]], started=["buy"], finished=["buy"])

# %% [markdown] at-every-event
# The check asks your function and the engine the same question at *every* event of the run.

# %% check-2
lesson.check(2, my_decide)

# %% [markdown] level
# ## 3. Why it looks again
#
# `decide` does not ask what has just happened, only what the state is. Such a function is called *level-triggered*.
#
# **Your turn.** Click an answer, or write its letter in place of the `...`.

# %% answer
answer = "c"  ### SOLUTION
lesson.quiz(
    3,
    "Why does the engine need no code of its own for a resume?",
    {
        "a": "A resume runs the steps in the order in which they are written in the file.",
        "b": "The process leaves a note of where it was before it dies.",
        "c": "It folds the events that are there and decides as always; that a process died makes no difference.",
        "d": "The events are sent to the new process again, one after the other.",
    },
    answer,
)

# %% check-3
lesson.check(3)

# %% [markdown] summary
# ## What you know now
#
# - `fold` returns the state, `decide` what should be in flight; both are pure.
# - The shell around them calls your functions, reads clocks and writes events, and asks again after each.
# - So a resume is a run whose history is not empty. Read on in `cerebelum_nb/_core/drive.py`: its docstring is the theory.

# %% score
lesson.score()
