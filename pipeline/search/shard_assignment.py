"""Assign segments to shard servers, balanced by bytes."""

from lamella.schemas.snapshot import IndexSnapshot


def place(snapshot: IndexSnapshot, servers: int) -> list[list[str]]:
    """Return each server's segments: largest first, each to the server with the fewest bytes."""
    sizes = {s.key: sum(file.size_bytes for file in s.files.values()) for s in snapshot.segments}
    held: list[list[str]] = [[] for _ in range(max(1, min(servers, len(sizes))))]
    load = [0] * len(held)
    for key in sorted(sizes, key=lambda key: (-sizes[key], key)):
        lightest = load.index(min(load))
        held[lightest].append(key)
        load[lightest] += sizes[key]
    return held
