"""What is installed on this machine, what works, and what is missing for what."""
