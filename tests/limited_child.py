"""A decoding child as schedulers run it: a plain user under a hard limit on address space."""

import os
import resource

from lamella.pipeline.corpus import child

ROOM_BYTES = 96 * 2**20
"""What the machine leaves for a picture."""

NOBODY = 65534


def become_plain() -> None:
    """Be a plain user from here on."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def main() -> None:
    """Become a plain user, take a hard limit, and go on as the real child."""
    become_plain()
    most = child._own_memory_bytes() + ROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    child.main()


if __name__ == "__main__":
    main()
