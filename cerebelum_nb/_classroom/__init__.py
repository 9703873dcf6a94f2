"""Teaching: processes that are killed, a fast clock, exercises that are checked against the log, and the lessons.

`exercises` says what each lesson asks and what its log must show; `lessons` holds their texts, which `build` makes
notebooks of.
"""
