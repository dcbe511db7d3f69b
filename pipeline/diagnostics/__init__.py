"""Inspect visual words: their health, the patches that excite them, their drift."""
