"""What leaves an index in the formats of other tools, and pictures that are nearly the same."""
