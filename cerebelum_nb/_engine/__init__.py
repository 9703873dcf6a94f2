"""The shell around the core in this process: event loop, attempts, leases, clock, signals."""
