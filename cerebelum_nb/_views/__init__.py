"""The views of a run: graph, card, progress, slider, approval form."""
