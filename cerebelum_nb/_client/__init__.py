"""The status client: other programs use it to query and control the executions of a log."""
