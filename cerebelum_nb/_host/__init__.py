"""Where the library runs: a notebook's cell or a script, and what shows to whom."""
