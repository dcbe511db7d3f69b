"""What a run will take, told from a probe of some of its pictures; and how it then came out."""
