# %% [markdown] intro
# # Lesson C: From the notebook to a module, with tests
#
# **Ten minutes, an elective.** You have done lesson 1, and know what a test is. Afterwards you can
#
# - test a workflow without its bank, its retries and its month of waiting,
# - crash it in a test, and
# - make a module of a notebook, with the proof that it is the code that ran.

# %% setup
import sys
from pathlib import Path

from cerebelum_nb import sleep, step, workflow
from cerebelum_nb.classroom import FastClock, Lesson
from cerebelum_nb.testing import Workflows, crash_after

lesson = Lesson("lesson-C", hibernate_after="9d")
notebook = "lesson_C_from_notebook_to_module.ipynb"  # the file of this notebook
lesson

# %% [markdown] double
# ## 1. A test with a double
#
# This order pays, waits a day, and is shipped. A test should neither pay nor wait a day. `Workflows` runs workflows with a
# clock that jumps and a log in memory; with pytest it is the fixture `workflows`. A **double** is what runs instead of a
# step: `doubles={charge: "paid"}` lets `charge` return `"paid"` at once.

# %% workflow
async def cheapest_courier():
    return "the post"  # it would ask a web service


courier = await cheapest_courier()


@step
def charge(inputs):
    if inputs["amount"] > 100:
        raise ValueError("the bank refuses")
    return f"paid {inputs['amount']}"


@step
async def pack(charge):
    await sleep("1d")
    return "parcel"


@step
async def ship(pack):
    ### BEGIN SOLUTION
    return f"{pack} with {await cheapest_courier()}"
    ### INSTEAD
    return f"{pack} with {courier}"
    ### END SOLUTION


@workflow
def order(wf):
    wf.timeline(charge >> pack >> ship)


order

# %% [markdown] write-test
# **Your turn.** Write the test: run the order with an amount of 500 and with a double of `charge`, and `assert` that the
# output is `"parcel with the post"`.

# %% test
def test_order(workflows):
    ### BEGIN SOLUTION
    run = workflows.run(order, {"amount": 500}, doubles={charge: "paid"})
    assert run.output == "parcel with the post"
    ### INSTEAD
    pass  # your code here: run = workflows.run(order, {...}, doubles={...})
    ### END SOLUTION


with Workflows() as workflows:
    test_order(workflows)
    print("the test passes")

# %% [markdown] the-check-of-test
# A test that always passes tests nothing. So the check runs yours twice: with your order, and with one whose `ship` loses
# the parcel.

# %% check-1
lesson.check(1, test_order)

# %% [markdown] crash
# ## 2. A test with a crash
#
# `crash_after` makes a run crash when an event is in the log, here in this process. The test resumes it afterwards.
#
# **Your turn.** The order crashes while `pack` sleeps. How often will `charge` and `pack` have been started in the end?

# %% prediction
starts_of_charge = 1  ### SOLUTION
starts_of_pack = 2  ### SOLUTION

# %% crashing
with Workflows() as workflows:
    with crash_after("SleepStarted", step=pack):
        workflows.run(order, {"amount": 30})
    run = workflows.resume(order)
    print(run.output, [run.attempts(charge), run.attempts(pack)])

# %% check-2
lesson.check(2, [starts_of_charge, starts_of_pack])

# %% [markdown] promote
# ## 3. Promote it
#
# Let it run once for real, so that the log says which code ran. (A day takes a tenth of a second here.)

# %% real-run
with FastClock("10d/s"):
    result = await order.execute({"amount": 40})
result.output

# %% [markdown] promote-it
# `cerebelum promote` reads the notebook's *file*: **save it** (Ctrl+S) before you run the next cell. It refuses to write the
# module, and says why: `ship` reads `courier`, which the notebook computed when its cell was run.
#
# **Your turn.** Change `ship` above: let it call `await cheapest_courier()` itself. Run its cell and the one with the
# real run, save, and run the next one again.

# %% promotion
Path("shop.py").unlink(missing_ok=True)
!{sys.executable} -m cerebelum_nb promote {notebook} shop.py --workflow order --db {lesson.log}

# %% check-3
lesson.check(3, "shop.py")

# %% [markdown] summary
# ## What you know now
#
# - A workflow is tested with doubles and a clock that jumps, and a test can crash it wherever it likes.
# - `cerebelum promote` writes what a workflow needs into a module, and proves step by step that it is the code that ran.
#   With `--tests` it also writes tests, from recorded runs.
#
# **To talk about:** which of your notebooks would `promote` refuse, and why is that good to know?

# %% score
lesson.score()
