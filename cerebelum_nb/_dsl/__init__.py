"""The description of workflows: ``@step``, ``>>``, the builder, and the fingerprint of code."""
