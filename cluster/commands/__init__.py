"""The command line: one file a command, what they share, and what they show."""
