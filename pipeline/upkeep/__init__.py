"""Maintenance of a store: verify, repair, retry and gc."""
