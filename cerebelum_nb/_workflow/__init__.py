"""The user's objects: a workflow, a run, a result, and how each is started, resumed and forked."""
