"""Where everything is kept: one small interface, its local folder, paths, commits, tables."""
