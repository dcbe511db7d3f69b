"""How stages are run: the protocols, the ledger of tasks, and the one-process runner."""
