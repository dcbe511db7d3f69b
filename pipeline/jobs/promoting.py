"""The door between making a snapshot and promoting it: gate, order and hold.

A job makes its snapshot in any case. Whether queries use it is decided here, against what is
current at that moment; if another writer promotes meanwhile, all of it is decided again.
"""

import datetime
from dataclasses import dataclass

from lamella.pipeline import events, meters
from lamella.pipeline.errors import NotPromoted
from lamella.pipeline.index.promotions import Standing, current_promotion, promote_after, standing
from lamella.pipeline.index.publish import publish
from lamella.pipeline.jobs.gate import Gate, judge, judgements
from lamella.pipeline.store.protocol import Store
from lamella.schemas.gate import Judgement
from lamella.schemas.snapshot import IndexSnapshot, Promotion


@dataclass(frozen=True)
class Published:
    """A snapshot that is current, and how it was judged; None where nothing judged it."""

    snapshot: IndexSnapshot
    judgement: Judgement | None


def publish_and_promote(
    store: Store,
    draft: IndexSnapshot,
    gate: Gate,
    *,
    instead_of: IndexSnapshot | None = None,
    force: bool = False,
) -> Published:
    """Create the snapshot of a draft unless an equal one exists, and promote it if it may be.

    Says so as events and metrics, of the snapshot that is current in the end.

    The first snapshot of a store has nothing to be judged against. One that is current already
    stays so, whatever is held.

    Args:
        instead_of: the snapshot that this one renews. If nothing has changed, nothing is promoted:
            another job may have promoted a third one meanwhile.
        force: promote in spite of gate, order and hold, and record that.

    Raises:
        NotPromoted: the snapshot was made; the message says what forbids it, and the way out.
        SnapshotIncomplete: a file that it names is missing.
        CommitUnknown: the outcome of a commit cannot be read back.
    """
    try:
        made = _published(store, draft, gate, instead_of=instead_of, force=force)
    except NotPromoted as error:
        events.warning("snapshot-withheld", str(error), snapshot=error.snapshot)
        _measure_current(store)
        raise
    events.info("snapshot-current", snapshot=made.snapshot.number, pictures=made.snapshot.indexed)
    _measure_current(store)
    return made


def unjudged(published: Published) -> list[str]:
    """Return lines that say where shares of pictures were not judged: it passed without them.

    Other rules are often not judged, for want of golden queries or new pictures.
    """
    rules = () if published.judgement is None else published.judgement.rules
    return [
        f"The gate did not judge what was removed and added: {rule.text}."
        for rule in rules
        if rule.rule == "removed" and rule.state == "not judged"
    ]


def _measure_current(store: Store) -> None:
    """Set the metrics of the current snapshot, which another job may have promoted meanwhile."""
    now = standing(store)
    if now is None:
        return
    current = now.snapshot
    meters.SNAPSHOT_NUMBER.set(current.number, store=store.url)
    meters.SNAPSHOT_PICTURES.set(current.indexed, store=store.url)
    if (made_at := _time(current.published_at)) is not None:
        meters.SNAPSHOT_PUBLISHED.set(made_at.timestamp(), store=store.url)


def _published(
    store: Store,
    draft: IndexSnapshot,
    gate: Gate,
    *,
    instead_of: IndexSnapshot | None,
    force: bool,
) -> Published:
    if instead_of is not None and instead_of.root_digest == draft.root_digest:
        return Published(instead_of, last_judgement(store, instead_of))
    now = standing(store)
    if now is not None and now.snapshot.root_digest == draft.root_digest:
        return Published(now.snapshot, last_judgement(store, now.snapshot))
    snapshot = publish(store, draft)
    # That of this run: an equal snapshot that was there may have an older one.
    listed_at = draft.listed_at or snapshot.listed_at
    while True:
        now = standing(store)
        if now is not None and now.snapshot.number == snapshot.number:
            return Published(snapshot, last_judgement(store, snapshot))
        judgement = None if now is None else judge(store, gate, snapshot, now.snapshot)
        _measure_verdict(judgement)
        against = [] if now is None else objections(store, snapshot, listed_at, now, judgement)
        if now is not None and against and not force:
            raise NotPromoted(_not_promoted(snapshot, now, against), snapshot.number)
        made = promote_after(
            store,
            None if now is None else now.promotion,
            snapshot,
            listed_at=listed_at,
            forced=bool(against),
            reason=_reason(now, against),
        )
        if made is not None:
            return Published(snapshot, judgement)


def _measure_verdict(judgement: Judgement | None) -> None:
    verdict = "unjudged"
    if judgement is not None:
        verdict = "passed" if judgement.passed else "failed"
    meters.GATE_VERDICTS.add(verdict=verdict)


def objections(
    store: Store,
    snapshot: IndexSnapshot,
    listed_at: str,
    now: Standing,
    judgement: Judgement | None,
) -> list[str]:
    """Return what stands against a promotion: each the rule, both values and the way out."""
    return [
        *_hold(store, now.promotion, snapshot, judgement),
        *_order(listed_at, now.promotion),
        *_gate(store, snapshot, judgement),
    ]


def _hold(
    store: Store, current: Promotion, snapshot: IndexSnapshot, judgement: Judgement | None
) -> list[str]:
    if not current.held:
        return []
    passed = ""
    if judgement is not None and judgement.passed:
        passed = f", though snapshot {snapshot.number} passed its gate"
    return [
        f"promotion {current.number} holds snapshot {current.snapshot} since "
        f"{current.promoted_at} ({current.reason}){passed}: end the hold with `lamella snapshots "
        f"{store.url} --release` and give the same command again"
    ]


def _order(listed_at: str, current: Promotion) -> list[str]:
    mine, theirs = _time(listed_at), _time(current.listed_at)
    if mine is None or theirs is None or mine >= theirs:
        return []
    return [
        f"its source was listed at {listed_at}, that of the current one at {current.listed_at}, "
        "and an older listing replaces no newer one: index the source as it is now"
    ]


def _time(text: str) -> datetime.datetime | None:
    """Return a time of a record, None where it has none; one without a zone is in UTC."""
    try:
        time = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.tzinfo is not None else time.replace(tzinfo=datetime.UTC)


def _gate(store: Store, snapshot: IndexSnapshot, judgement: Judgement | None) -> list[str]:
    if judgement is None or judgement.passed:
        return []
    failed = "; ".join(rule.text for rule in judgement.failed)
    return [
        f"{failed}: look at it (`lamella query {store.url} --snapshot {snapshot.number}`), then "
        f"`lamella snapshots {store.url} --promote {snapshot.number}`, or change the setting"
    ]


def _not_promoted(snapshot: IndexSnapshot, now: Standing, against: list[str]) -> str:
    return (
        f"snapshot {snapshot.number} is made and not promoted, snapshot {now.snapshot.number} "
        f"stays current: {'; and '.join(against)}; the same command with --force promotes it all "
        "the same"
    )


def _reason(now: Standing | None, against: list[str]) -> str:
    if now is None:
        return "the first"
    return f"forced: {'; and '.join(against)}" if against else "passed its gate"


def last_judgement(store: Store, snapshot: IndexSnapshot) -> Judgement | None:
    """Return the last judgement of a snapshot, that against the current one if there is one."""
    current = current_promotion(store)
    against = current.snapshot if current is not None else 0
    return judgements(store, against, only=snapshot.number).get(snapshot.number)
