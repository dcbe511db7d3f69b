"""Give the pictures of a source ids, and decode each to RGB pixels or a named refusal."""
