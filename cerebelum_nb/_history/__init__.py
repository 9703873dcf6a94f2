"""The event log as DataFrames, pictures and time travel; :mod:`cerebelum_nb.history` is its public face."""
