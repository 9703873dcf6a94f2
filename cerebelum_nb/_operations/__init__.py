"""Durable operations in steps: ``sleep``, ``poll``, ``retry``, ``context.run``, approvals and signals."""
