"""The event log: SQLite and memory, under one contract."""
