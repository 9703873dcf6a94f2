"""Maintaining a log and moving executions to another; :mod:`cerebelum_nb.archive` is the public module."""
