"""The old place of the stores, for one release."""
