"""Keeping a log and carrying executions elsewhere; :mod:`cerebelum_nb.archive` is its public face."""
