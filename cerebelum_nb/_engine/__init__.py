"""Runs executions in this process: the asyncio shell around the core, with attempts, leases, clock and signals."""
