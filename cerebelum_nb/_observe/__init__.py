"""Observing executions from outside: metrics, traces, log records, notifications, and the follower of a log."""
