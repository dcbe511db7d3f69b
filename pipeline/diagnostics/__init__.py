"""A person's look at visual words: their health, the patches that excite them, their drift."""
