"""Aids for testing workflows; ``cerebelum_nb.testing`` names what is public, ``plugin`` is the pytest plugin."""
