# %% [markdown] intro
# # Lesson 4: Asleep for a month
#
# **Ten minutes.** You have done lesson 1. Afterwards you can
#
# - write a step that waits for days, and say what a crash does to it,
# - wait for something with a deadline, and for a person, and
# - explain how a run sleeps without any process, and what wakes it.
#
# A month is long for a lesson. `FastClock("10d/s")` is a clock on which ten days pass in a second. The time that your
# computer itself needs counts as well: a tenth of a second is a day, so a month takes a little more than 30 days here.

# %% setup
from datetime import timedelta

from cerebelum_nb import ExecutionClient, PollTimeoutError, poll, scheduler, sleep, step, wait_for_approval, workflow
from cerebelum_nb.classroom import FastClock, Lesson

lesson = Lesson("lesson-4", hibernate_after="365d")  # exercise 4 explains this
world = lesson.world
lesson

# %% [markdown] campaign
# ## 1. A mail a day
#
# This step sends a mail every day for a month. `context.run` records each mail the moment it is sent.

# %% campaign-workflow
def send(day):
    world.note(f"mail {day}")


@step
async def mails(context):
    for day in range(1, 31):
        await context.run(f"mail {day}", send, day)
        await sleep("1d")
    return "30 mails"


@workflow
def campaign(wf):
    wf.timeline(mails)


world.clear()
killed = lesson.crash(campaign, after="SleepCompleted mails", nth=17, clock=FastClock("10d/s"))
print("killed after", len(world.counts()), "mails")

# %% [markdown] predict
# The process was killed on day 17, the moment that day's sleep was over.
#
# **Your turn.** The campaign is resumed. Which mail will be the first one that is sent now? Write its number.

# %% prediction
next_mail = 18  ### SOLUTION

# %% resume
with FastClock("10d/s", start=killed.at):
    result = await campaign.resume(killed)
print(result.output, "- sent twice:", [mail for mail, times in world.counts().items() if times > 1])

# %% check-1
lesson.check(1, next_mail)

# %% [markdown] deadline
# ## 2. Wait, but not for ever
#
# `poll` calls a function again and again until it returns something. This parcel needs three days, and the customer was
# promised two.
#
# **Your turn.** Give `poll` a deadline: `timeout="2d"`. When it is over, `poll` raises `PollTimeoutError`, and the
# workflow takes the path to `apologise`.

# %% parcel
@step
async def wait_for_parcel(inputs):
    looks = iter(range(1000))
    return await poll(
        lambda: "parcel" if next(looks) == 12 else None,  # every six hours: it comes on the third day
        interval="6h",
        ### BEGIN SOLUTION
        timeout="2d",
        ### INSTEAD
        max_attempts=100,  # your turn: a deadline instead
        ### END SOLUTION
    )


@step
def hand_over(wait_for_parcel):
    return f"here is your {wait_for_parcel}"


@step
def apologise():
    return "it will be late, we are sorry"


@workflow
def delivery(wf):
    wf.timeline(wait_for_parcel >> hand_over)
    wf.diverge(from_step=wait_for_parcel, patterns={PollTimeoutError: apologise})


with FastClock("10d/s"):
    result = await delivery.execute()
result.output

# %% check-2
lesson.check(2)

# %% [markdown] approval
# ## 3. Ask your neighbour
#
# A workflow can wait for a person. This one asks before it books a trip.

# %% ask
@step
async def ask(inputs):
    return await wait_for_approval("trip", data={"to": inputs["to"]})


@step
def book(ask, inputs):
    return f"booked: {inputs['to']}, {ask['nights']} nights"


@workflow
def trip(wf):
    wf.timeline(ask >> book)


run = trip.start({"to": "Lima"})
await lesson.until(run, "waiting for approval")
run

# %% [markdown] neighbour
# **Your turn.** Hand the keyboard to your neighbour, who writes a name in place of `"nobody"` and runs the cell. Whoever
# approves is recorded in the log for ever.

# %% approve
who = "Ana"  ### SOLUTION "nobody"

if who != "nobody":
    await ExecutionClient().approve(run.execution_id, {"nights": 3}, by=who)
    result = await run
    print(result.output)

# %% check-3
lesson.check(3)

# %% [markdown] hibernate
# ## 4. Nobody is at home
#
# So far a process stayed awake all the time, only to wait. For a month that is a waste, and your laptop goes to sleep as
# well. So a long wait **hibernates**: the run leaves the process, and the log says when it is due. By default that
# happens with waits of more than an hour; the line above with `hibernate_after="365d"` had turned it off.

# %% sleeper
lesson.store.hibernate_after = timedelta(hours=1)


@step
async def wait_ten_days():
    await sleep("10d")
    return "good morning"


@workflow
def sleeper(wf):
    wf.timeline(wait_ten_days)


clock = FastClock("10d/s")
with clock:
    asleep = await sleeper.execute()
print(asleep.status, "until", lesson.wakes_at(asleep).date())

# %% [markdown] predict-processes
# **Your turn.** How many processes are running `sleeper` at this moment?

# %% processes
processes = 0  ### SOLUTION

# %% [markdown] scheduler
# What wakes it is a **scheduler**: a program that looks into the log for what is due, and resumes it. Usually it is a
# small process of its own, `cerebelum scheduler`. Here it runs in the notebook.
#
# In the list of events below, `StepCheckpointed` is a bookmark: it says at which line the step waits. After the sleep the
# step is started once more, at that line, and not at its top. So the second `SleepStarted` is the rest of the same sleep.

# %% wake
with clock:
    alarm = scheduler()
    await lesson.until(asleep)
    await alarm.stop()
lesson.events(asleep)

# %% check-4
lesson.check(4, processes)

# %% [markdown] summary
# ## What you know now
#
# - A wait is recorded. After a crash it continues where it was; a sleep only waits for what is left of it.
# - `poll` has a deadline, and a person's decision is recorded with their name.
# - A run can **hibernate**: no process runs it, and the **scheduler** resumes it when it is due.
#
# **To talk about:** what does it cost to let 10,000 runs sleep for a month?

# %% score
lesson.score()
