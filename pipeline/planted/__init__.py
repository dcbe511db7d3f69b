"""A corpus whose truth is known: objects cut from real photographs, each seen several times."""
