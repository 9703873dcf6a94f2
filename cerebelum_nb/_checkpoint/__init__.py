"""Entering a step's function again at the statement where it waited, with the variables it had there."""
