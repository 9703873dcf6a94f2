"""Resumes executions that are due or were left by a dead process."""
