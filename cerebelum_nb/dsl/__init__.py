"""What users write: steps, chains, flow actions and the builder that turns them into a plan."""
