"""The asyncio shell around the core: the run loop, attempts, operations in steps, leases, timers."""
