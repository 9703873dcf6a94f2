"""Where events are kept: one contract, a SQLite log and one in memory."""
