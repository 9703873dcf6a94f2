# %% [markdown] intro
# # Lesson 1: A program that remembers
#
# **Ten minutes.** You need to know what a Python function is. Afterwards you can
#
# - explain what an *event log* is,
# - predict which parts of a program run again after a crash, and
# - write the few lines that find out what is finished.
#
# Run the cells from the top with Shift+Enter. **Your turn** means that you change the next cell. A cell with
# `lesson.check(...)` tells you what is still missing.

# %% setup
from cerebelum_nb.classroom import Lesson

lesson = Lesson("lesson-1")
world = lesson.world
lesson

# %% [markdown] forgets
# ## 1. A program that forgets
#
# A shop handles an order in three steps. The second one takes money from a customer's account. The third one calls a
# courier, who does not answer the first call. `world` writes down what really happened.

# %% functions
def reserve(order):
    world.note("reserve " + order["item"])
    return order


def charge(order):
    world.note("charge 40 EUR")
    return order


def ship(order):
    world.note("call the courier")
    if world.count("call the courier") < 2:
        raise ConnectionError("the courier does not answer")
    return "shipped"


def run(order):
    for function in (reserve, charge, ship):
        order = function(order)
    return order

# %% first-run
world.clear()
try:
    run({"item": "lamp"})
except ConnectionError as error:
    print("failed:", error)

# %% [markdown] predict
# It failed, so you run it again, as anybody would.
#
# **Your turn.** Predict: when the program has run a second time, how often will the customer have paid? Write the number
# in place of the `...`. Then run that cell and the one below it.

# %% prediction
payments = 2  ### SOLUTION

# %% second-run
print(run({"item": "lamp"}))
world

# %% check-1
lesson.check(1, payments)

# %% [markdown] diary
# ## 2. Write it down
#
# The cure is an old one: keep a diary. **When a step is finished, write it down with its result. Before you run a step,
# look whether it is there.**
#
# **Your turn.** `run_with_diary` looks into the diary, but nothing writes into it. Add the missing line: append the pair
# `(function.__name__, order)`. Then run the cell and look at `world`.

# %% with-diary
diary = []


def run_with_diary(order):
    for function in (reserve, charge, ship):
        finished = dict(diary)
        if function.__name__ in finished:
            order = finished[function.__name__]
            continue
        order = function(order)
        ### BEGIN SOLUTION
        diary.append((function.__name__, order))
        ### END SOLUTION
    return order


world.clear()
for attempt in (1, 2):
    try:
        print(run_with_diary({"item": "lamp"}))
    except ConnectionError as error:
        print("failed:", error)
world

# %% check-2
lesson.check(2, diary)

# %% [markdown] engine
# You have just written a small *durable workflow engine*. Its diary has one weakness: it is a variable, and is gone when
# the program is. cerebelum_nb keeps the diary in a file. It is called the **event log**.

# %% [markdown] log
# ## 3. A log that survives
#
# `@step` makes a function a step. A parameter that is named after a step receives what that step returned, and `inputs`
# is what the run was given. `@workflow` says in which order the steps run, and `>>` means *then*.

# %% workflow
from cerebelum_nb import step, workflow


@step
def reserve(inputs):
    world.note("reserve " + inputs["item"])
    return inputs["item"]


@step
def charge(reserve):
    world.note("charge 40 EUR")
    return "paid"


@step
def ship(reserve, charge):
    world.note("call the courier")
    return f"{reserve} shipped"


@workflow
def shop(wf):
    wf.timeline(reserve >> charge >> ship)


shop

# %% [markdown] kill
# Now something worse than an error: somebody pulls the plug. The next cell runs the workflow in another process and
# **kills that process** the moment `charge` is written down as completed. It shows the log that was left on the disk: one
# **event** a line, numbered by its *version*.

# %% crash
world.clear()
order = lesson.crash(shop, {"item": "lamp"}, after="StepCompleted charge")
order

# %% [markdown] what-will-run
# The last line says that `ship` was about to start. Before it could call the courier, the process was dead.
#
# **Your turn.** The log is still there. When this order is resumed, which steps will run? Write their names into the
# list, each in quotes. Then run the next cells: `await` waits there until the resumed run has ended.

# %% second-prediction
will_run = ["ship"]  ### SOLUTION [...]

# %% resume
result = await shop.resume(order)
print(result.output)
world

# %% check-3
lesson.check(3, will_run)

# %% [markdown] fold
# ## 4. What the log knows
#
# Everything that cerebelum_nb knows about a run, it finds by reading the log from the top: each event changes a little
# what is known. Reading a list like this is called a **fold**. Here is the log of your order. A dead process writes
# nothing: it was the resume that found `ship` started and not completed, and wrote `StepInterrupted`.

# %% events
lesson.events(order)

# %% [markdown] your-fold
# **Your turn.** Which steps are finished? Complete the function: it goes through the pairs and collects the names of the
# finished steps.

# %% finished
def finished(events):
    known = []
    for kind, step in events:
        ### BEGIN SOLUTION
        if kind == "StepCompleted":
            known.append(step)
        ### END SOLUTION
    return known


finished(lesson.events(order))

# %% [markdown] at-every-event
# The check asks your function and the library the same question at *every* event of the order, also before the crash.

# %% check-4
lesson.check(4, finished)

# %% [markdown] summary
# ## What you know now
#
# - An **event log** is a diary that is only ever added to.
# - The **state** of a run is the fold of its events. Nothing else is known about it.
# - A **resume** reads the log. What is finished is not run again; the rest runs.
#
# **To talk about:** what if the plug is pulled *after* the money has moved and *before* it is written down? Lesson 3 does
# exactly that.

# %% score
lesson.score()
