"""The live dashboard: a small server of its own that shows the executions of logs, and acts on them when asked."""
