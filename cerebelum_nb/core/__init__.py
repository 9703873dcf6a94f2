"""The pure core: data, events, the fold and the decisions. No clock, no file, no event loop."""
