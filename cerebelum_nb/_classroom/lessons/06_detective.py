# %% [markdown] intro
# # Lesson 6: Detective
#
# **Ten minutes.** You have done lesson 1. Afterwards you can
#
# - answer questions about runs that somebody else made, from their log alone,
# - say what a run knew at one of its events, and
# - find out whether a log was changed behind everybody's back.
#
# A newsletter is sent every Monday. For a year nobody looked. Now readers complain. You have no code and nobody to ask;
# you have the log.

# %% setup
from cerebelum_nb import archive, history
from cerebelum_nb.classroom import Lesson, forged_copy, recorded_year

lesson = Lesson("lesson-6")
log = recorded_year(lesson.folder / "year.db")
year = history.open({"year": log})
lesson

# %% [markdown] since-when
# ## 1. Since when?
#
# `year.executions()` is a DataFrame with one row per run. `year.executions(state="failed")` has only those that failed,
# the newest first.
#
# **Your turn.** Which was the *first* run that failed? Try things in the next cell, then write the id into the one after.

# %% look
year.executions().head()

# %% first-failure
first = "week-23"  ### SOLUTION

# %% check-1
lesson.check(1, first)

# %% [markdown] which-step
# ## 2. Which step, and why?
#
# `year.steps()` has one row per attempt of a step, with its state and its error. It takes `state="failed"` as well.
#
# **Your turn.** Which step failed in all these weeks, and how many recipients are too many for the mail server?

# %% look-at-steps
year.steps("week-01")

# %% culprit
culprit = "send"  ### SOLUTION
limit = 1000  ### SOLUTION

# %% check-2
lesson.check(2, [culprit, limit])

# %% [markdown] what-it-knew
# ## 3. What did it know?
#
# The log keeps what every step returned. `year.state_at("week-01")` is what was known at the end of that run, and its
# `.results` are what the steps had returned.
#
# **Your turn.** How many subscribers did the newsletter have in week 42?

# %% look-at-state
year.state_at("week-01").results

# %% subscribers
subscribers = 1178  ### SOLUTION

# %% check-3
lesson.check(3, subscribers)

# %% [markdown] forged
# ## 4. Somebody lied
#
# The boss shows you a copy of the log, and says that some week had far fewer readers. The database refuses every change of
# an event; but anybody who can write the file can remove these guards and put them back. So each event has a hash, which
# is computed from it *and* from the hash of the event before it. `archive.verify` computes all of them again; its
# `findings` are what is wrong, and empty if nothing is.
#
# **Your turn.** Which run was changed in the copy? First look at the original, then at the copy.

# %% verify
copy = forged_copy(log)
archive.verify(store=log)

# %% look-at-copy
### BEGIN SOLUTION
archive.verify(store=copy)
### INSTEAD
...  # your turn: verify the copy
### END SOLUTION

# %% forged-run
forged = "week-17"  ### SOLUTION

# %% check-4
lesson.check(4, forged)

# %% [markdown] summary
# ## What you know now
#
# - A log answers questions that nobody had when it was written: since when, which step, what was known.
# - It is a SQLite file: pandas, SQL and any other tool can ask it.
# - Its **hash chain** shows a change made behind the back of the database. It is not a signature: someone who recomputes
#   all the hashes is found out only by a person who kept the last one elsewhere.

# %% score
lesson.score()
