"""Continue a step's function at the statement where it waited, with the variables it had there."""
