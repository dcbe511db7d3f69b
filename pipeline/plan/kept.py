"""Plans in a store: a numbered series for each subject, so that the last one is known."""

from pipeline.errors import CommitConflict
from pipeline.store import layout
from pipeline.store.protocol import Store
from pipeline.store.records import read_record
from schemas.plan import Plan


def keep_plan(store: Store, plan: Plan) -> str:
    """Store a plan beside the earlier ones of its subject; return its path."""
    key = layout.keyed(plan.name, plan.subject)
    while True:
        path = layout.plan(key, _last(store, key) + 1)
        try:
            store.create(path, plan.to_json())
        except CommitConflict:  # someone else planned the same at the same time
            continue
        return path


def last_plan(store: Store, name: str, subject: str) -> Plan | None:
    """Return the newest plan of a subject, None where there is none.

    Raises:
        CorruptFile: it is damaged.
    """
    key = layout.keyed(name, subject)
    number = _last(store, key)
    return read_record(store, layout.plan(key, number), Plan) if number else None


def _last(store: Store, key: str) -> int:
    numbers = [name.removesuffix(".json") for name in store.names(layout.plans(key))]
    return max((int(each) for each in numbers if each.isdigit()), default=0)
