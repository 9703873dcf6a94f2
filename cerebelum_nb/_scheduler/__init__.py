"""The scheduler starts the executions of schedules, and resumes those that are due or were left by a dead process."""
