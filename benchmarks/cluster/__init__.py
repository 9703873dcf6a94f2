"""The two sides of the benchmark ``distributed``: a worker of ours, and one written by hand for Temporal."""
