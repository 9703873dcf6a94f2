"""One module for each command, or for commands that belong together. Imported when a command is called."""
