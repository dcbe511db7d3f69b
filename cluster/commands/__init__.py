"""The command line: a file for each command, shared options, and tables."""
