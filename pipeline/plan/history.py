"""Plans in a store: a numbered series for each subject.

The subject is a digest of what decides the costs of a run, by which a run finds its plan.
"""

from lamella.pipeline.errors import CommitConflict
from lamella.pipeline.jobs.indexing import Prepared
from lamella.pipeline.store import tree
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.records import read_record
from lamella.schemas.base import digest_of
from lamella.schemas.plan import Plan

FREE = ("name", "profile", "fusion", "search", "gate", "engine", "corpus", "network", "vectors")
"""Settings that change no cost, or that the digests of listing and extraction spec cover."""


def subject_of(prepared: Prepared) -> str:
    """Return the digest of what decides the costs of a run; it is the same for run and plan."""
    settings = prepared.job.model_dump(mode="json", exclude=set(FREE))
    return digest_of(
        [prepared.corpus_inputs, prepared.spec.digest(), dict(prepared.imports), settings]
    )


def keep_plan(store: Store, plan: Plan) -> str:
    """Store a plan under the next number of its subject; return its path."""
    key = tree.keyed(plan.name, plan.subject)
    while True:
        path = tree.PLAN.at(keyed=key, number=_last(store, key) + 1)
        try:
            store.create(path, plan.to_json())
        except CommitConflict:  # another process planned the same at the same time
            continue
        return path


def last_plan(store: Store, name: str, subject: str) -> Plan | None:
    """Return the newest plan of a subject, None if there is none.

    Raises:
        CorruptFile: the plan is damaged.
    """
    key = tree.keyed(name, subject)
    number = _last(store, key)
    path = tree.PLAN.at(keyed=key, number=number)
    return read_record(store, path, Plan) if number else None


def _last(store: Store, key: str) -> int:
    folder = tree.PLAN.folder(keyed=key)
    found = [tree.read(f"{folder}/{name}") for name in store.names(folder)]
    return max((each.number for each in found if each and each.record is Plan), default=0)
