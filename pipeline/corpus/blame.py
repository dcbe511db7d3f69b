"""Decide whether the picture or the machine is at fault when a picture cannot be read.

A refusal is kept for ever, so it must be the picture's fault. Faults of the machine (open files,
memory, a file system not mounted) fail the task instead, which is tried again, perhaps elsewhere.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from lamella.pipeline.errors import DecoderUnavailable, SourceGone, StoreUnavailable

_OWN_IF_THE_SOURCE_ANSWERS = frozenset(
    {
        *(errno.ENOENT, errno.EACCES),  # this file, or a whole folder that is not there for us
        # Damaged blocks of one file, or a lost disk or server.
        *(errno.EIO, errno.EUCLEAN, errno.EBADMSG, errno.EREMOTEIO, errno.ENODATA),
    }
)
_OWN = _OWN_IF_THE_SOURCE_ANSWERS | {
    *(errno.ENOTDIR, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ),
    *(errno.EISDIR, errno.ENXIO, errno.ENODEV),  # a folder, a socket, a device
}
_CURES = {
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENFILE: "raise the machine's limit on open files (fs.file-max)",
    errno.ENOMEM: "free memory, or use fewer --workers",
}
_MOUNT = "see that its disk or server answers and is mounted here"


def check_own_fault(error: OSError, name: str, root: str | None) -> None:
    """Return if an error is this file's own fault; raise if it is the machine's.

    Args:
        error: raised by opening, reading or stat of the file. An error without a number comes from
            a library and concerns the file's contents.
        name: of the file, for the message.
        root: the source's local folder: unless it can be listed, a missing or damaged file proves
            nothing. None where the source has just answered.

    Raises:
        SourceGone: the folder of the pictures is not there.
        StoreUnavailable: something else is the machine's fault; the message has the cure.
    """
    if error.errno is None:
        return
    if error.errno in _OWN:
        if root is not None and error.errno in _OWN_IF_THE_SOURCE_ANSWERS:
            _check_source(root, name)
        return
    why = error.strerror or os.strerror(error.errno)
    cure = _CURES.get(error.errno, _MOUNT)
    raise StoreUnavailable(
        f"{name} cannot be read on this machine: {why}. That is no fault of the picture, and it "
        f"is not refused: {cure}, then give the same command again"
    ) from error


def _check_source(root: str, name: str) -> None:
    """Raise SourceGone where the source's folder is missing, or empty like a bare mount point."""
    try:
        with os.scandir(root) as found:
            why = "is empty" if next(found, None) is None else None
    except OSError as error:
        why = f"cannot be listed ({error.strerror})"
    if why is not None:
        raise SourceGone(
            f"{name} cannot be read: the source's folder {root} {why} on this machine. No picture "
            f"is refused for that: {_MOUNT}, then give the same command again"
        )


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Add the picture's name to a failure of its decoding process."""
    try:
        yield
    except DecoderUnavailable as error:
        raise DecoderUnavailable(f"{name}: {error}") from error
