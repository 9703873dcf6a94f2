# %% [markdown] intro
# # Lesson 5: The code has changed
#
# **Ten minutes.** You have done lesson 1. Afterwards you can
#
# - repair a step that failed, and continue where it failed,
# - predict which results are *stale* after a change, and read the plan of a resume, and
# - ask "what if" with a fork, and compare two runs.

# %% setup
from cerebelum_nb import WorkflowError, history, step, workflow
from cerebelum_nb.classroom import Lesson

lesson = Lesson("lesson-5")
lesson

# %% [markdown] weather
# ## 1. Repair it, and continue
#
# A weather station sends its readings in Fahrenheit, as text. Now and then it sends `n/a`. This workflow makes a report
# in Celsius, and fails.

# %% workflow
def celsius(text):
    return (float(text) - 32) * 5


@step
def read(inputs):
    return inputs["readings"]


@step
def convert(read):
    return [None if text == "n/a" else celsius(text) for text in read]


@step
def average(convert):
    return sum(convert) / len(convert)


@step
def report(average):
    return f"{average:.0f} degrees"


@workflow
def weather(wf):
    wf.timeline(read >> convert >> average >> report)


try:
    await weather.execute({"readings": ["50", "59", "n/a", "68"]})
except WorkflowError as error:
    run = error.execution_id
    print(error)

# %% [markdown] repair
# **Your turn.** Repair `average`: leave out what is `None`. Run the cell, and the one below it, which resumes.

# %% average
@step
def average(convert):
    ### BEGIN SOLUTION
    known = [value for value in convert if value is not None]
    return sum(known) / len(known)
    ### INSTEAD
    return sum(convert) / len(convert)  # your code here
    ### END SOLUTION

# %% resume
try:
    result = await weather.resume(run)
    print(result.output)
except WorkflowError as error:
    print(error.__cause__)

# %% check-1
lesson.check(1)

# %% [markdown] wrong
# ## 2. What is stale?
#
# It runs, and it is wrong: nobody has survived 135 degrees. The formula lacks a `/ 9`. Here is the right one:

# %% formula
def celsius(text):
    return (float(text) - 32) * 5 / 9

# %% [markdown] predict-stale
# `celsius` is not a step but a helper that one of the steps calls. A result is **stale** when the code that made it has
# changed since, or when it was made from a stale result.
#
# **Your turn.** Which of the four steps have a stale result now? Write their names into the list, *before* you run the
# cell below, which shows the plan.

# %% prediction
stale = ["convert", "average", "report"]  ### SOLUTION [...]

# %% plan
weather.plan_resume(run)

# %% [markdown] rerun
# A resume keeps stale results unless you say otherwise: it never repeats work on its own. Now we say so.

# %% rerun-stale
try:
    result = await weather.resume(run, rerun="stale")
    print(result.output)
except WorkflowError as error:
    print(error.__cause__)

# %% check-2
lesson.check(2, stale)

# %% [markdown] fork
# ## 3. What if?
#
# What if the readings had come in another order? A **fork** is a new run that begins with a copy of the history of another
# one, up to a step. The original does not change.
#
# **Your turn.** The fork has other inputs. Which is the first step that has to run again, because it uses `inputs`?

# %% from-step
from_step = "read"  ### SOLUTION

# %% forked
if from_step is not ...:
    fork = await weather.fork(run, from_step=from_step, inputs={"readings": ["68", "n/a", "59", "50"]})
    print(fork.output)

# %% check-3
lesson.check(3, from_step)

# %% [markdown] diff
# ## 4. Compare
#
# **Your turn.** The same readings in another order: in which steps do the results of the two runs differ?

# %% differ
differ = ["read", "convert"]  ### SOLUTION [...]

# %% compare
if from_step is not ...:
    print(history.diff(run, fork))

# %% check-4
lesson.check(4, differ)

# %% [markdown] summary
# ## What you know now
#
# - After a repair, a **resume** continues at what failed; what was finished is kept.
# - A change of code or of a helper makes results **stale**. The plan says which and why; `rerun="stale"` runs them again.
# - A **fork** answers "what if" without touching the original, and a diff compares two runs step by step.
#
# **To talk about:** why does a resume keep stale results unless it is told otherwise?

# %% score
lesson.score()
