"""Strings in, strings out: text, times, durations, HTML. It knows nothing about executions."""
