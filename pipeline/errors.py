"""The exceptions of Lamella. Callers may handle them; the command line prints them as one line.

Every message says the rule, both values if two disagree, and what to do.
"""

from collections.abc import Iterable


def one_line(said: object, most: int = 300) -> str:
    """Return a text or a value as one line of at most about `most` characters, for a message."""
    text = " ".join(str(said).split())
    return text if len(text) <= most else f"{text[:most]}..."


def kind_of(error: BaseException) -> str:
    """Return the name of the exception in this file that an error is; "" if it is none.

    It travels from a worker to the command, where the error itself may not: other machines may
    lack what it takes to read it. Of a commit that is unknown for want of rights it is the kind of
    what is wanting, as that is what a person has to give.
    """
    rights = NoAccess | LoginFailed | NoSuchBucket
    if isinstance(error, CommitUnknown) and isinstance(error.__cause__, rights):
        error = error.__cause__
    here = (each.__name__ for each in type(error).__mro__ if each.__module__ == __name__)
    return next(here, "")


class LamellaError(Exception):
    """The base of all exceptions that Lamella raises on purpose."""


class InputError(LamellaError):
    """The arguments, settings or data given cannot be used."""


class UnknownLayer(InputError):
    """A layer that the network does not have."""


class MismatchedQueries(InputError):
    """Answers to different queries were to be merged."""


class IncompatibleInputs(InputError):
    """Two things made with different specs were to be combined; the message has both digests."""


class StoreError(LamellaError):
    """A store failed, or does not hold what it should."""


class MissingFile(StoreError):
    """A file is not in the store."""


class NotAFile(StoreError):
    """Something in a store is not a regular file but, for example, a link or a pipe."""


class CorruptFile(StoreError):
    """A file is damaged: it differs from its record, breaks its seal, or has the wrong form."""


class NewerFormat(StoreError):
    """A record was written by a newer version of this software."""


class OlderFormat(StoreError):
    """A record was written by an older version of this software, in a form it reads no more."""


class CommitConflict(StoreError):
    """A record exists already, or was made from other inputs."""


class CommitUnknown(StoreError):
    """It is not known whether a commit succeeded; nothing was deleted, and a retry is safe."""


class StoreUnavailable(StoreError):
    """The store did not answer within all retries; giving the command again continues it."""


class SourceGone(StoreUnavailable):
    """The folder of the pictures is missing or empty on this machine."""


class NoAccess(StoreError):
    """The user or the credentials in use have no right to do this."""


class LoginFailed(StoreError):
    """There are no credentials, or the store does not accept them."""


class NoSuchBucket(StoreError):
    """The address names a bucket that does not exist."""


class DecoderUnavailable(LamellaError):
    """The process that decodes pictures does not start on this machine. No picture is refused."""


class CardLost(LamellaError):
    """A graphics card is lost to this process; a new process may be able to use it."""


class StageFailed(LamellaError):
    """Tasks of a stage failed, or too many pictures were refused; the message says which.

    Attributes:
        kinds: of the errors that tasks failed by, as `kind_of` gives them.
    """

    def __init__(self, message: str, kinds: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.kinds = frozenset(kinds)


class EngineLost(LamellaError):
    """What runs the tasks is lost, such as Ray; giving the command again continues it."""


class DoesNotFit(LamellaError):
    """A job needs more disk or memory than there is, or its plan says that it will stop."""


class Unfit(LamellaError):
    """Something that a plain installation needs does not work on this machine."""


class AccountMismatch(LamellaError):
    """The pictures of a task do not add up: one is in no state, or in two."""


class SnapshotIncomplete(LamellaError):
    """A snapshot cannot be published because a shard has no done record."""


class NotPromoted(LamellaError):
    """A snapshot was made, and the current one stays: its gate, its order or a hold forbids more.

    Attributes:
        snapshot: the number of the snapshot that was made.
    """

    def __init__(self, message: str, snapshot: int = 0) -> None:
        super().__init__(message)
        self.snapshot = snapshot


class ShardUnavailable(LamellaError):
    """A segment did not answer, so its batch of queries has no answer."""
