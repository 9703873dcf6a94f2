"""How a workflow is described: ``@step``, ``>>``, the builder, and the fingerprint of code."""
