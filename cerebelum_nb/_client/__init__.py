"""The status client, with which other programs query and control the executions of a log."""
