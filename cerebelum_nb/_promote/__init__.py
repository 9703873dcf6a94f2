"""``cerebelum promote``: make a module of a notebook's workflow, and prove with recorded runs that it is the same code.

``draft`` makes the text of the module and finds what cannot be in one, ``proof`` compares it with the log, ``tests``
makes tests from recorded runs.
"""
