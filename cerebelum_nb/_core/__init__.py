"""What an execution is and what it does next, as pure functions. No clock, chance, database or event loop."""
