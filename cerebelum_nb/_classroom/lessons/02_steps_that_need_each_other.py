# %% [markdown] intro
# # Lesson 2: Steps that need each other
#
# **Ten minutes.** You have done lesson 1. Afterwards you can
#
# - write a step that uses what other steps returned,
# - put steps in order with `>>`, and repair an order with the list of its errors, and
# - run steps side by side with `[ ]`, and say what happens when one of them fails.

# %% setup
import asyncio

from cerebelum_nb import WorkflowError, step, workflow
from cerebelum_nb.classroom import Lesson, peek

lesson = Lesson("lesson-2")
look = peek(lesson)  # from now on each cell shows what it wrote to the log
lesson

# %% [markdown] order
# ## 1. Put them in order
#
# Here are five steps for a cake. Read the names in the brackets: **a parameter that is named after a step receives what
# that step returned.** So `bake` needs `mix` and `heat`.

# %% steps
@step
def buy(inputs):
    return {"flavour": inputs["flavour"], "eggs": 3}


@step
def mix(buy):
    return f"{buy['flavour']} dough with {buy['eggs']} eggs"


@step
def heat():
    return "180 degrees"


@step
def bake(mix, heat):
    return f"{mix}, baked at {heat}"


@step
def cool(bake):
    return f"{bake}, cold"

# %% [markdown] your-order
# **Your turn.** `>>` means *then*. This order is wrong, and the report below the cell says why. Repair it.

# %% timeline
@workflow
def cake(wf):
    wf.timeline(buy >> mix >> heat >> bake >> cool)  ### SOLUTION     wf.timeline(cool >> bake >> buy >> mix >> heat)


report = cake.validate()
report

# %% [markdown] run-cake
# A workflow with errors does not start at all, so nothing can break half way. Once the report finds no problem, this cell
# runs the steps:

# %% run-cake-cell
if report.ok:
    result = await cake.execute({"flavour": "lemon"})
    print(result.output)

# %% check-1
lesson.check(1)

# %% [markdown] write
# ## 2. Write a step
#
# **Your turn.** Complete `invoice`. It needs two things: the `price` that the step `price` returned, and the number of
# guests, which is `inputs["guests"]`. Every guest pays the price. Add what is missing to the brackets, and return the total.

# %% invoice
@step
def price():
    return 4


@step
### BEGIN SOLUTION
def invoice(price, inputs):
    return price * inputs["guests"]
### INSTEAD
def invoice():
    return 0  # your code here
### END SOLUTION


@workflow
def party(wf):
    wf.timeline(price >> invoice)


result = await party.execute({"guests": 6})
result.output

# %% check-2
lesson.check(2)

# %% [markdown] parallel
# ## 3. Side by side
#
# The oven can get hot while you mix the dough. Steps in square brackets run side by side: `a >> [b, c] >> d` runs `b` and
# `c` at the same time, and `d` when both are finished. (`await asyncio.sleep(0.2)` stands for the work: a step that is
# an `async def` may wait with `await`, and lets others work meanwhile.)
#
# **Your turn.** Let `mix` and `heat` run side by side.

# %% faster
@step
async def mix(buy):
    await asyncio.sleep(0.2)
    return f"{buy['flavour']} dough"


@step
async def heat():
    await asyncio.sleep(0.2)
    return "180 degrees"


@workflow
def faster_cake(wf):
    wf.timeline(buy >> [mix, heat] >> bake >> cool)  ### SOLUTION     wf.timeline(buy >> mix >> heat >> bake >> cool)


result = await faster_cake.execute({"flavour": "lemon"})
faster_cake

# %% [markdown] intervals
# The check does not look at your code. It looks into the log, whether each of the two steps started before the other one
# was finished.

# %% check-3
lesson.check(3)

# %% [markdown] fault
# ## 4. One of them fails
#
# Somebody has left the oven door open: `heat` will fail at once, while `mix` is still at work.
#
# **Your turn.** Predict, before you run the cell with the oven: when this cake has failed, which steps are finished and
# will *not* run again after a resume? Does `mix` lose its work because `heat` failed? Write the names into the list.

# %% prediction
kept = ["buy", "mix"]  ### SOLUTION [...]

# %% open-door
door = {"open": True}


@step
async def heat():
    if door["open"]:
        raise RuntimeError("the oven door is open")
    return "180 degrees"


@workflow
def unlucky_cake(wf):
    wf.timeline(buy >> [mix, heat] >> bake)


try:
    await unlucky_cake.execute({"flavour": "lemon"})
except WorkflowError as error:
    failed = error.execution_id
    print(error.__cause__)

# %% [markdown] close
# Compare your list with the log. Then close the door, and resume:

# %% resume
door["open"] = False
result = await unlucky_cake.resume(failed)
result.output

# %% check-4
lesson.check(4, kept)

# %% [markdown] summary
# ## What you know now
#
# - A step names what it needs in its brackets, and a workflow is checked before anything runs.
# - `>>` means *then*, `[ ]` means *side by side*.
# - When one of several steps fails, the others finish, and their results are kept.

# %% score
look.off()
lesson.score()
