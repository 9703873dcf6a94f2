"""What an execution is and what it does next, as pure functions, without clock, randomness, database or event loop."""
