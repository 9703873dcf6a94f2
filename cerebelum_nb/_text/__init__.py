"""Strings in, strings out: text, times, durations, HTML. Knows no execution."""
