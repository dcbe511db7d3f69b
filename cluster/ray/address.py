"""Where the Ray that a job joins is named: by its settings, or by the environment."""

import os

VARIABLE = "RAY_ADDRESS"
LOCAL = "local"
"""The address that names no cluster, as for Ray itself."""


def given_address(address: str | None) -> str | None:
    """Return the address of the cluster to join; None if we start a Ray of our own."""
    found = address or os.environ.get(VARIABLE)
    return None if found == LOCAL else found or None


def origin_of(address: str | None) -> str:
    """Return what to add to the message of an address that does not work: who gave it."""
    if address:
        return ""
    return (
        f" (the address is that of the variable {VARIABLE}: unset it to start a Ray on this "
        "machine, or give another with --address)"
    )
