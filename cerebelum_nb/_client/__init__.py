"""The status client: what other programs ask of a log, and tell it."""
