"""A corpus with known truth: objects cut from real photographs, each in several views."""
