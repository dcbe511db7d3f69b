"""`plan`: estimate the costs of a run from a sample of its pictures, and compare afterwards."""
