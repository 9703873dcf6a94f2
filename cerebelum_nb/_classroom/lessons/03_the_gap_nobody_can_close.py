# %% [markdown] intro
# # Lesson 3: The gap nobody can close
#
# **Ten minutes.** You have done lesson 1. Afterwards you can
#
# - explain why a log can promise *at least once*, and not *exactly once*,
# - put an effect into `context.run`, and
# - make a payment safe with an idempotency key.

# %% setup
from cerebelum_nb import step, workflow
from cerebelum_nb.classroom import Lesson, every_crash

lesson = Lesson("lesson-3")
world = lesson.world
lesson

# %% [markdown] order
# ## 1. After it is written down
#
# `charge` takes money in `context.run("pay", ...)`. That records the result of the payment the moment it is there: the
# event is called `OperationCompleted`. If `charge` has to run again, the recorded result is used, and nobody pays twice.
# (A step that has `context` in its brackets gets these tools from the library.)

# %% workflow
def pay(amount):
    world.note(f"charge {amount} EUR")
    return "paid"


@step
def reserve(inputs):
    return inputs["item"]


@step
async def charge(reserve, context):
    return await context.run("pay", pay, 40)


@step
def ship(reserve, charge):
    return f"{reserve} shipped"


@workflow
def shop(wf):
    wf.timeline(reserve >> charge >> ship)


shop

# %% [markdown] kill-after
# We pull the plug right **after** the payment is on disk.

# %% crash-after
world.clear()
order = lesson.crash(shop, {"item": "lamp"}, after="OperationCompleted charge")
order

# %% [markdown] predict-after
# **Your turn.** `charge` was not finished, so it will run again. How often will the customer have paid when the order is
# completed?

# %% prediction-after
payments_after = 1  ### SOLUTION

# %% resume-after
await shop.resume(order)
world

# %% check-1
lesson.check(1, payments_after)

# %% [markdown] kill-before
# ## 2. Before it is written down
#
# Now the worst moment: the money **has** moved, and the plug is pulled before that is on disk. Compare this log with
# the one above: which event is missing?

# %% crash-before
world.clear()
order = lesson.crash(shop, {"item": "lamp"}, before="OperationCompleted charge")
order

# %% [markdown] predict-before
# **Your turn.** How often will the customer have paid this time?

# %% prediction-before
payments_before = 2  ### SOLUTION

# %% resume-before
await shop.resume(order)
world

# %% check-2
lesson.check(2, payments_before)

# %% [markdown] why
# No program can close this gap: paying and writing down are two actions, and the plug can always be pulled between
# them. A log promises that a step runs **at least once**. The rest is up to the other side, which must recognise a
# repeated request.

# %% [markdown] key
# ## 3. Let the bank refuse the second payment
#
# Banks, card companies and cloud providers take an **idempotency key** with a request: a second request with the same
# key is answered with the result of the first, and nothing happens. `context.idempotency_key` is such a key. It is the
# same whenever this step of this order runs again, and another one for any other order.
#
# **Your turn.** Pass the key to the bank: `bank` takes it as the second argument.

# %% careful
def bank(amount, key=None):
    if key is not None and world.count(f"charge {amount} EUR, key {key}"):
        return "paid"  # the answer to the first request; no money moves
    world.note(f"charge {amount} EUR" + (f", key {key}" if key is not None else ""))
    return "paid"


@step
async def charge(reserve, context):
    ### BEGIN SOLUTION
    return await context.run("pay", bank, 40, context.idempotency_key)
    ### INSTEAD
    return await context.run("pay", bank, 40)  # your turn: pass the key as well
    ### END SOLUTION


@workflow
def careful_shop(wf):
    wf.timeline(reserve >> charge >> ship)


world.clear()
order = lesson.crash(careful_shop, {"item": "lamp"}, before="OperationCompleted charge")
await careful_shop.resume(order)
world

# %% check-3
lesson.check(3)

# %% [markdown] everywhere
# ## 4. Pull the plug everywhere
#
# `every_crash` starts the order again and again, kills it each time after another write to the log, and resumes it. Each
# row is one death: *kept* were finished by then, *ran* is what the resume ran. *finished twice* would name steps that had
# finished and ran again all the same: look whether there are any. *same end* says whether the results are those of an
# order that nobody killed.

# %% every-crash
every_crash(careful_shop, {"item": "lamp"})

# %% [markdown] quiz
# **Your turn.** Click an answer, or write its letter in place of the `...`.

# %% answer
answer = "c"  ### SOLUTION
lesson.quiz(
    4,
    "The plug is pulled while a step runs. What happens after a resume?",
    {
        "a": "The step is skipped, because it was started already.",
        "b": "Every step runs again, from the first one.",
        "c": "The step runs again; what had finished before it does not.",
        "d": "The step runs exactly once, whatever it does.",
    },
    answer,
)

# %% check-4
lesson.check(4)

# %% [markdown] summary
# ## What you know now
#
# - A finished step never runs again. The step that was running does: **at least once**. What it did in `context.run`, and
#   what was written down, is not repeated.
# - `context.run` makes the gap as small as one write to the disk, and nothing makes it zero.
# - An **idempotency key** lets the other side see that a request is a repetition.
#
# **To talk about:** which of these need a key? Reading a file, sending an email, creating a folder, ordering a pizza.

# %% score
lesson.score()
