# %% [markdown] intro
# # Lesson B: Undo what was done
#
# **Ten minutes, an elective.** You have done lessons 1 and 3. Afterwards you can
#
# - write what undoes a step, with `@STEP.on_rollback`,
# - predict in which order a rollback undoes, and
# - say what happens to a rollback that fails half way.

# %% setup
from cerebelum_nb import WorkflowError, step, workflow
from cerebelum_nb.classroom import Lesson

lesson = Lesson("lesson-B")
world = lesson.world
lesson

# %% [markdown] trip
# ## 1. What undoes a step
#
# A trip is booked in three steps at three companies. None of them can take part in a transaction of ours: what was booked
# stays booked. When the last step fails, somebody has to cancel the others. A chain of steps that have each their undo is
# called a **saga**.
#
# `@book_flight.on_rollback` says what undoes `book_flight`. It receives what `book_flight` returned.
#
# **Your turn.** Write what undoes `book_hotel`: it notes `"cancel " + book_hotel` in the world.

# %% workflow
@step
def book_flight(inputs):
    world.note("book flight to " + inputs["to"])
    return "flight to " + inputs["to"]


@book_flight.on_rollback
def cancel_flight(book_flight):
    world.note("cancel " + book_flight)


@step
def book_hotel(book_flight, inputs):
    world.note("book hotel in " + inputs["to"])
    return "hotel in " + inputs["to"]


### BEGIN SOLUTION
@book_hotel.on_rollback
def cancel_hotel(book_hotel):
    world.note("cancel " + book_hotel)
### INSTEAD
# your turn: what undoes book_hotel
### END SOLUTION


@step
def pay(book_hotel):
    raise ValueError("the card was declined")


@workflow
def trip(wf):
    wf.timeline(book_flight >> book_hotel >> pay)


world.clear()
try:
    await trip.execute({"to": "Lima"})
except WorkflowError as error:
    run = error.execution_id
    print(error.__cause__)
world

# %% [markdown] predict
# **Your turn.** The hotel was booked with what the flight returned. In which order will a rollback undo the steps? Write
# their names into the list, the first one first.

# %% prediction
undone = ["book_hotel", "book_flight"]  ### SOLUTION [...]

# %% plan
trip.plan_rollback(run)

# %% rollback
result = await trip.rollback(run)
print(result.status)
world

# %% check-1
lesson.check(1)

# %% check-2
lesson.check(2, undone)

# %% [markdown] half-way
# ## 2. A rollback that fails half way
#
# This airline must be called, and its telephone is out of order. So the hotel is cancelled, and the flight is not.

# %% airline
telephone = {"works": False}


@book_flight.on_rollback
def cancel_flight(book_flight):
    if not telephone["works"]:
        raise ConnectionError("the airline does not answer")
    world.note("cancel " + book_flight)


@book_hotel.on_rollback
def cancel_hotel(book_hotel):
    world.note("cancel " + book_hotel)


@workflow
def second_trip(wf):
    wf.timeline(book_flight >> book_hotel >> pay)


world.clear()
try:
    await second_trip.execute({"to": "Quito"})
except WorkflowError as error:
    second = error.execution_id
try:
    await second_trip.rollback(second)
except WorkflowError as error:
    print(error)
world

# %% [markdown] predict-again
# **Your turn.** The telephone works again, and the rollback is called once more. How often will the hotel have been
# cancelled in the end?

# %% cancellations
cancellations = 1  ### SOLUTION

# %% again
telephone["works"] = True
result = await second_trip.rollback(second)
world

# %% check-3
lesson.check(3, cancellations)

# %% [markdown] summary
# ## What you know now
#
# - `@STEP.on_rollback` says how a step is undone; a rollback undoes the completed steps, the last one first.
# - An undo is recorded as a step, `~book_hotel`. So a rollback that was interrupted continues, and undoes nothing twice.
# - An undo that was at work when its process died runs again: **at least once**, as every step.
#
# **To talk about:** what cannot be undone, and where in a workflow should it be?

# %% score
lesson.score()
