"""Resumes what is due, and what a dead process left."""
