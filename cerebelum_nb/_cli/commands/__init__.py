"""A module per command, or for commands that belong together; imported when the command is called."""
