"""Live pictures of runs: cards in a notebook, bars in a terminal, lines elsewhere."""
