"""Ray: where a job's tasks run, who may talk to it, and how it is left as it was found."""
