"""The live dashboard: a small server that shows the executions of logs, and acts on them on request."""
