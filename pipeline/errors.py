"""Errors with names: what a caller may handle, and what the command line turns into one line.

Every message says the rule, both values where two disagree, and what to do.
"""


def one_line(said: object, most: int = 300) -> str:
    """Return what a library said, or a value, as it may stand in a message: one line, not long."""
    text = " ".join(str(said).split())
    return text if len(text) <= most else f"{text[:most]}..."


class LamellaError(Exception):
    """Whatever this project raises on purpose."""


class InputError(LamellaError):
    """The call, the settings or the data given cannot be used; nothing was written."""


class UnknownLayer(InputError):
    """A layer that the network does not have."""


class MismatchedQueries(InputError):
    """Answers that are not for the same queries were brought together."""


class IncompatibleInputs(InputError):
    """Two things made with different specs were brought together; both digests are shown."""


class StoreError(LamellaError):
    """The store did not do, or does not hold, what was asked of it."""


class MissingFile(StoreError):
    """A file that a record names is not in the store."""


class NotAFile(StoreError):
    """What lies in a store under a name is no regular file, or leads out of it: a link, a pipe."""


class CorruptFile(StoreError):
    """A file differs from what its record says in size or SHA-256."""


class NewerFormat(StoreError):
    """A record was written by a newer version of this software."""


class CommitConflict(StoreError):
    """Another writer created the record first, with other contents."""


class CommitUnknown(StoreError):
    """The outcome of a commit could not be read back; nothing was deleted, a retry is safe."""


class StoreUnavailable(StoreError):
    """The store did not answer for as long as we wait; a later run of the command goes on."""


class SourceGone(StoreUnavailable):
    """The folder of the pictures is not there, or is empty, on this machine."""


class NoAccess(StoreError):
    """The credentials in use have no right to do this."""


class LoginFailed(StoreError):
    """There are no credentials, or the store does not accept them, or no longer."""


class NoSuchBucket(StoreError):
    """The address names a bucket that is not there."""


class DecoderUnavailable(LamellaError):
    """The process that decodes pictures does not start here; no picture is refused for it."""


class CardLost(LamellaError):
    """A graphics card does not answer, and will not again in this process; another may have it."""


class StageFailed(LamellaError):
    """Tasks of a stage failed; the message names them and the command that resumes."""


class EngineLost(LamellaError):
    """What runs the tasks is gone, such as a process of Ray; a later run of the command goes on."""


class DoesNotFit(LamellaError):
    """What a job takes is more than the disk or the memory at hand."""


class AccountMismatch(LamellaError):
    """A stage's pictures do not add up: one is in no state, or in two."""


class SnapshotIncomplete(LamellaError):
    """A shard without a done record stands between the job and its snapshot."""


class ShardUnavailable(LamellaError):
    """A segment did not answer, so the batch of queries is not answered."""
