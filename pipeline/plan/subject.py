"""What a plan and a run must share to be compared."""

from pipeline.jobs.indexing import Prepared
from schemas.base import digest_of

FREE = ("name", "profile", "fusion", "search", "engine", "corpus", "network")
"""Settings that change no cost, or whose effect is in the listing's digest or the spec."""


def subject_of(prepared: Prepared) -> str:
    """Return the digest of what decides the costs of a run: plans and runs meet by it."""
    settings = prepared.job.model_dump(mode="json", exclude=set(FREE))
    return digest_of(
        [prepared.corpus_inputs, prepared.spec.digest(), dict(prepared.imports), settings]
    )
