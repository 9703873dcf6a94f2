"""``cerebelum promote``: the workflow of a notebook becomes a module, and recorded runs prove that it is the same code.

``draft`` writes the module and says what keeps it from being one, ``proof`` compares it with the log, ``tests`` writes
tests from recorded runs.
"""
