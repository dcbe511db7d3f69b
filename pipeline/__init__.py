"""Pure compute and storage, from pictures to fused rankings. Knows nothing of Ray."""
