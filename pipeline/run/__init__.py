"""Running steps: their interface and harness, the ledger of tasks, the runner in one process."""
