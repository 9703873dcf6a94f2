"""Where the library runs: in a notebook's cell or a script, and who sees what it shows."""
