"""Helpers for testing workflows; ``cerebelum_nb.testing`` has the public names, ``plugin`` is the pytest plugin."""
