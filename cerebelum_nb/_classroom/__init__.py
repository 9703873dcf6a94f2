"""Teaching: processes that are killed, a fast clock, exercises that are checked against the log, and the lessons.

`exercises` defines what each lesson asks and what its log must show; `lessons` has the texts, of which `build` makes
notebooks.
"""
