"""Wakes what is due and takes up what a dead process left."""
