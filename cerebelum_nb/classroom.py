"""Teaching with cerebelum_nb: crashes on demand, a fast clock, and exercises that the log checks.

    from cerebelum_nb.classroom import Lesson

``import cerebelum_nb`` does not load it. Only public names live here.
"""

from __future__ import annotations

from ._classroom.case import forged_copy, recorded_year
from ._classroom.clock import FastClock
from ._classroom.crash import Crash, crash, every_crash
from ._classroom.evidence import Answer, Evidence, RecordedRun
from ._classroom.grading import grade, roster
from ._classroom.lesson import Lesson
from ._classroom.peek import Peek, peek
from ._classroom.quiz import Quiz, quiz
from ._classroom.verdict import Score, Verdict, check
from ._classroom.world import World

__all__ = [
    "Answer",
    "Crash",
    "Evidence",
    "FastClock",
    "Lesson",
    "Peek",
    "Quiz",
    "RecordedRun",
    "Score",
    "Verdict",
    "World",
    "check",
    "crash",
    "every_crash",
    "forged_copy",
    "grade",
    "peek",
    "quiz",
    "recorded_year",
    "roster",
]
