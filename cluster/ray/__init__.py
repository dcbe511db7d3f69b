"""Run tasks on Ray: start or join it, secure it, and leave it as it was found."""
