"""The gate: judge a new snapshot against the current one, and keep the judgement.

A share is of indexed pictures, and a picture is an image id: one that changed is gone, and new.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from lamella.pipeline.arrays import Int64s
from lamella.pipeline.corpus.refused import top_reasons
from lamella.pipeline.errors import CorruptFile
from lamella.pipeline.index.files import read_image_ids
from lamella.pipeline.index.promotions import now
from lamella.pipeline.index.shards import shards_of
from lamella.pipeline.index.words_fit import WordsFit, shards_fits
from lamella.pipeline.jobs.golden import (
    Golden,
    Side,
    open_side,
    overlap_of,
    read_golden,
    recall_of,
)
from lamella.pipeline.store import tree
from lamella.pipeline.store.commit import create_once, read_committed
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.store.record_rules import judgement_path
from lamella.pipeline.store.records import parse_record, read_record
from lamella.schemas.gate import (
    GateSettings,
    Judgement,
    Rule,
    RuleResult,
    State,
    judged_subject,
)
from lamella.schemas.snapshot import IndexSnapshot

FEW_PICTURES = 3
"""Up to so many pictures that are gone, new or newly refused fail no gate, even of a small one."""


@dataclass(frozen=True)
class Gate:
    """What a new snapshot must satisfy.

    Attributes:
        golden: the golden queries, where there are any.
        shares: whether pictures that are gone or new count.
    """

    settings: GateSettings = field(default_factory=GateSettings)
    golden: Golden | None = None
    shares: bool = True


def open_gate(settings: GateSettings, *, shares: bool = True) -> Gate:
    """Return the gate of a job, with its golden queries read.

    Raises:
        InputError: the file of golden queries cannot be used.
    """
    golden = None if settings.golden is None else read_golden(settings.golden)
    return Gate(settings, golden, shares)


def judge(store: Store, gate: Gate, new: IndexSnapshot, current: IndexSnapshot) -> Judgement:
    """Return how the gate judges a snapshot against the current one, and keep it in the store.

    A judgement that is there already is returned: it depends on nothing but what its path names.

    Raises:
        StoreError: a file of one of the snapshots is damaged or gone.
    """
    sha256 = gate.golden.sha256 if gate.golden is not None else ""
    subject = judged_subject(
        new.root_digest, current.root_digest, gate.settings, sha256, gate.shares
    )
    path = judgement_path(new.number, subject)
    there = store.exists(path)
    if there:
        try:
            return read_record(store, path, Judgement)
        except CorruptFile:
            pass  # it is made anew, and takes the place of the damaged one
    rules = tuple(_judged(store, gate, new, current))
    made = Judgement(
        snapshot=new.number,
        root_digest=new.root_digest,
        against=current.number,
        against_root=current.root_digest,
        settings=gate.settings,
        golden_sha256=sha256,
        shares=gate.shares,
        judged_at=now(),
        passed=all(rule.state != "failed" for rule in rules),
        rules=rules,
    )
    if there:
        store.replace(path, made.to_json())
        return made
    return parse_record(store, path, Judgement, create_once(store, path, made.to_json()))


def judgements(store: Store, current: int = 0, *, only: int | None = None) -> dict[int, Judgement]:
    """Return the last judgement of each snapshot that has one; `verify` reports damaged ones.

    Args:
        current: the snapshot that is current: a judgement against it goes before later ones.
        only: read the judgements of this snapshot alone.
    """
    found: dict[int, Judgement] = {}
    folder = tree.GATE.folder()
    for path in (f"{folder}/{name}" for name in store.names(folder)):
        other = only is not None and not path.startswith(f"{folder}/{only:06d}-")
        if other or tree.record_of(path) is not Judgement:
            continue
        try:
            record = read_record(store, path, Judgement)
        except CorruptFile:
            continue
        before = found.get(record.snapshot)
        if before is None or _rank(record, current) > _rank(before, current):
            found[record.snapshot] = record
    return found


def _rank(judgement: Judgement, current: int) -> tuple[bool, str, int]:
    return judgement.against == current, judgement.judged_at, judgement.against


def _judged(
    store: Store, gate: Gate, new: IndexSnapshot, current: IndexSnapshot
) -> Iterator[RuleResult]:
    old_ids, new_ids = image_ids(store, current), image_ids(store, new)
    if gate.shares:
        yield from share_rules(gate.settings, new, current, new_ids, old_ids)
    else:
        for rule in ("removed", "added"):
            yield _not_judged(rule, "a retry changes no picture that was not refused")
    yield refused_rule(gate.settings, new, current)
    if gate.golden is not None:
        names = gate.golden.names()
        old_side = open_side(store, current, old_ids, names)
        new_side = open_side(store, new, new_ids, names)
        same_spec = new.extraction.digest() == current.extraction.digest()
        yield from golden_rules(gate.settings, gate.golden, new, new_side, old_side, same_spec)
    gained = len(np.setdiff1d(new_ids, old_ids, assume_unique=True))
    yield drift_rule(gate.settings, gained, _fits_of_new(store, new, current))


def image_ids(store: Store, snapshot: IndexSnapshot) -> Int64s:
    """Return the ids of all indexed pictures of a snapshot, (n,) int64 rising."""
    parts = [
        read_committed(store, segment.files["images"], read_image_ids)
        for segment in snapshot.segments
    ]
    return np.sort(np.concatenate([np.empty(0, np.int64), *parts]))


def share_rules(
    settings: GateSettings,
    new: IndexSnapshot,
    current: IndexSnapshot,
    new_ids: Int64s,
    old_ids: Int64s,
) -> list[RuleResult]:
    """Judge how many pictures are gone and how many are new.

    Not between corpora of two names that share no picture: these are no versions of one.

    Args:
        new_ids, old_ids: of the indexed pictures, (n,) rising, of the new and the current snapshot.
    """
    kept = len(np.intersect1d(old_ids, new_ids, assume_unique=True))
    if not kept and new.corpus != current.corpus:
        why = (
            f"snapshot {new.number} is of corpus {new.corpus}, snapshot {current.number} of "
            f"{current.corpus}, and they have no picture in common"
        )
        return [_not_judged("removed", why), _not_judged("added", why)]
    before, gone, gained = len(old_ids), len(old_ids) - kept, len(new_ids) - kept
    if not before:
        why = f"snapshot {current.number} has no picture"
        return [_not_judged("removed", why), _not_judged("added", why)]
    return [
        _at_most(
            "removed",
            gone / before,
            settings.removed,
            f"{gone:,} of {before:,} pictures of snapshot {current.number} are gone or changed, "
            f"{gone / before:.1%}, and at most {settings.removed:.1%} may be (gate.removed)",
            few=gone <= FEW_PICTURES,
        ),
        _at_most(
            "added",
            gained / before,
            settings.added,
            f"{gained:,} pictures are new beside {before:,} of snapshot {current.number}, "
            f"{gained / before:.1%}, and at most {settings.added:.1%} may be (gate.added)",
            few=gained <= FEW_PICTURES,
        ),
    ]


def refused_rule(settings: GateSettings, new: IndexSnapshot, current: IndexSnapshot) -> RuleResult:
    """Judge by how much the share of refused pictures rose."""
    now_share, before = (
        each.refused / each.images if each.images else 0.0 for each in (new, current)
    )
    rise = now_share - before
    why = f" ({top_reasons(new.refused_by_reason)})" if new.refused_by_reason else ""
    return _at_most(
        "refused",
        rise,
        settings.refused,
        f"{now_share:.1%} of the pictures are refused{why}, {before:.1%} were in snapshot "
        f"{current.number}, and the share may rise by at most {settings.refused:.1%} "
        "(gate.refused)",
        few=new.refused - current.refused <= FEW_PICTURES,
    )


def golden_rules(
    settings: GateSettings,
    golden: Golden,
    new: IndexSnapshot,
    new_side: Side,
    old_side: Side,
    same_spec: bool,
) -> Iterator[RuleResult]:
    """Judge whether golden queries are there, find what they must, and are answered as before.

    Args:
        same_spec: whether both snapshots see pictures by the same network; else answers differ.
    """
    names = [each.name for each in golden.queries]
    gone = [name for name in names if name not in new_side.named]
    if gone:
        more = f" and {len(gone) - 1:,} more are" if len(gone) > 1 else " is"
        text = (
            f"golden query {gone[0]}{more} not in snapshot {new.number}, and all of "
            f"{golden.path} must be (gate.golden): put the pictures back, or take the lines out"
        )
        yield RuleResult(rule="golden", state="failed", text=text)
    else:
        text = f"all {len(names):,} golden queries are in snapshot {new.number}"
        yield RuleResult(rule="golden", state="passed", text=text)
    recall = recall_of(new_side, golden.queries, settings.k)
    if recall is None:
        yield _not_judged("golden_recall", "no golden query that is there has expected names")
    else:
        yield _at_least(
            "golden_recall",
            recall,
            settings.golden_recall,
            f"golden queries find {recall:.1%} of their expected names among the first "
            f"{settings.k}, and at least {settings.golden_recall:.1%} must be (gate.golden_recall)",
        )
    if not same_spec:
        yield _not_judged("overlap", "the two snapshots see pictures by other networks or vectors")
        return
    overlap = overlap_of(old_side, new_side, names, settings.k)
    if overlap is None:
        yield _not_judged("overlap", "no golden query is in both snapshots")
        return
    yield _at_least(
        "overlap",
        overlap,
        settings.overlap,
        f"{overlap:.1%} of the first {settings.k} of golden queries are as before, and at least "
        f"{settings.overlap:.1%} must be (gate.overlap)",
    )


def drift_rule(settings: GateSettings, gained: int, fits: list[WordsFit]) -> RuleResult:
    """Judge how well the current words fit new pictures, by the layer where they fit worst.

    Args:
        gained: how many pictures are new; of a few, one picture's descriptors would decide.
        fits: of the layers whose words are those of the current snapshot, on shards that are new.
    """
    known = [fit for fit in fits if fit.ratio is not None]
    if gained <= FEW_PICTURES or not known:
        few = f"{gained:,} pictures are new"
        return _not_judged("drift", few if gained <= FEW_PICTURES else "no error is on record")
    worst = max(known, key=lambda fit: fit.ratio or 0.0)
    ratio = worst.ratio or 0.0
    return _at_most(
        "drift",
        ratio,
        settings.drift,
        f"the words of {worst.layer} have {ratio:.2f} times the error of their training on new "
        f"pictures, and at most {settings.drift:.2f} may be (gate.drift)",
    )


def _fits_of_new(store: Store, new: IndexSnapshot, current: IndexSnapshot) -> list[WordsFit]:
    """Return how words that were kept fit the shards that the current snapshot does not have."""
    kept = {
        layer: vocabulary
        for layer, vocabulary in new.vocabularies.items()
        if layer in current.vocabularies
        and current.vocabularies[layer].identity() == vocabulary.identity()
    }
    known = {shard.key for shard in shards_of(store, current)}
    shards = [shard for shard in shards_of(store, new) if shard.key not in known]
    return list(shards_fits(store, new, shards, kept).values())


def _not_judged(rule: Rule, why: str) -> RuleResult:
    return RuleResult(rule=rule, state="not judged", text=why)


def _at_most(rule: Rule, value: float, limit: float, text: str, few: bool = False) -> RuleResult:
    state: State = "passed" if few or value <= limit else "failed"
    return RuleResult(rule=rule, state=state, value=value, limit=limit, text=text)


def _at_least(rule: Rule, value: float, limit: float, text: str) -> RuleResult:
    state: State = "passed" if value >= limit else "failed"
    return RuleResult(rule=rule, state=state, value=value, limit=limit, text=text)
