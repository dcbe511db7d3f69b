"""What is stored is frozen, checks itself, and has one digest for one meaning."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lamella.schemas.base import canonical_json, digest_of
from lamella.schemas.corpus import CorpusManifest, ShardRef
from lamella.schemas.extraction import ExtractionSpec, LayerSpec, PreprocessSpec, WeightsRef
from lamella.schemas.files import DoneRecord, FileRef
from lamella.schemas.query import FusionSpec, LayerMap
from lamella.schemas.rankings import QueryRun
from lamella.schemas.refusals import RefusalReason
from lamella.schemas.snapshot import IndexSnapshot
from lamella.schemas.vocabulary import Vocabulary, VocabularySpec
from tests.conftest import Indexed

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def file(sha: str = "a", rows: int = 2, path: str = "folder/1.t.parquet") -> FileRef:
    return FileRef(path=path, size_bytes=9, sha256=sha * 64, rows=rows)


def shard(key: str, images: int, refused: int = 0) -> ShardRef:
    return ShardRef(
        key=key * 16,
        first="a.jpg",
        last="b.jpg",
        mark=7,
        images=images,
        refused=refused,
        ignored=0,
        file=file(rows=images),
    )


def manifest(*shards: ShardRef, images: int = 5, refused: int = 1) -> CorpusManifest:
    return CorpusManifest(
        name="c",
        root="/r",
        kind="folder",
        shards=shards,
        images=images,
        refused=refused,
        ignored=0,
        content_digest="b" * 64,
    )


@given(values)
def test_equal_values_have_equal_canonical_json(value: object) -> None:
    encoded = canonical_json(value)
    assert canonical_json(json.loads(encoded)) == encoded


def test_the_order_of_keys_has_no_part_in_a_digest() -> None:
    assert digest_of({"a": 1, "b": [2]}) == digest_of({"b": [2], "a": 1})
    assert digest_of([1, 2]) != digest_of([2, 1])


def test_a_stored_value_comes_back_and_cannot_be_changed() -> None:
    done = DoneRecord(stage="s", key="k", inputs="i", files={"f": file()}, commit_id="c")
    assert DoneRecord.from_json(done.to_json()) == done
    with pytest.raises(ValidationError, match="frozen"):
        done.key = "other"


def test_unknown_fields_are_refused() -> None:
    record = json.loads(file().to_json()) | {"colour": "red"}
    with pytest.raises(ValidationError, match="colour"):
        FileRef.from_json(json.dumps(record).encode())


def test_content_leaves_out_which_attempt_wrote_it() -> None:
    one = DoneRecord(stage="s", key="k", inputs="i", files={"f": file()}, commit_id="c")
    other = DoneRecord(
        stage="s", key="k", inputs="i", files={"f": file(path="folder/1.u.parquet")}, commit_id="d"
    )
    assert one.content() == other.content()
    assert one.digest() != other.digest()
    changed = one.model_copy(update={"files": {"f": file("b")}})
    assert changed.content() != one.content()


@pytest.mark.parametrize("sha", ["", "A" * 64, "a" * 63, "g" * 64])
def test_a_checksum_is_64_digits_of_hex(sha: str) -> None:
    with pytest.raises(ValidationError):
        FileRef(path="p", size_bytes=1, sha256=sha)


def test_a_manifest_adds_up() -> None:
    assert manifest(shard("0", 2), shard("1", 3, refused=1)).images == 5
    wrong = [
        ((shard("0", 2), shard("1", 3, 1)), 6, "images is 6; the shards add up to 5"),
        ((shard("0", 5),), 5, "refused is 1; the shards add up to 0"),
    ]
    for shards, images, message in wrong:
        with pytest.raises(ValidationError, match=message):
            manifest(*shards, images=images)


def test_a_shard_refuses_no_more_than_it_has_and_has_a_row_an_image() -> None:
    with pytest.raises(ValidationError, match="refuses 3 of 2"):
        shard("0", 2, refused=3)
    with pytest.raises(ValidationError, match=r"2 images, .* 7 rows"):
        ShardRef(**shard("0", 2).model_dump() | {"file": file(rows=7)})


def test_every_reason_has_a_meaning() -> None:
    assert all(reason.meaning for reason in RefusalReason)
    assert len({reason.meaning for reason in RefusalReason}) == len(RefusalReason)


def spec(**changes: object) -> ExtractionSpec:
    layer = LayerSpec(name="a", node="n", kind="local")
    weights = WeightsRef(source="file", name="w", sha256="a" * 64)
    settings = {
        "network": "net",
        "weights": weights,
        "preprocess": PreprocessSpec(),
        "layers": (layer,),
    }
    return ExtractionSpec.model_validate(settings | changes)


def test_a_precision_that_is_not_chosen_leaves_the_digest_as_it_was_before_there_was_one() -> None:
    assert b"precision" not in spec().to_json()
    assert spec(precision="float32") == spec()
    chosen = spec(precision="tf32")
    assert type(chosen).from_json(chosen.to_json()) == chosen
    assert type(chosen).from_json(spec().to_json()).precision == "float32"


def test_what_decides_activations_is_in_the_digest() -> None:
    other = WeightsRef(source="file", name="w", sha256="b" * 64)
    digests = {
        spec().digest(),
        spec(batch_size=16).digest(),
        spec(precision="bfloat16").digest(),
        spec(weights=other).digest(),
        spec(preprocess=PreprocessSpec(short_edge=300)).digest(),
        spec(layers=(LayerSpec(name="a", node="m", kind="local"),)).digest(),
    }
    assert len(digests) == 6


def test_a_fusion_falls_from_high_to_low_in_no_threshold() -> None:
    with pytest.raises(ValidationError, match=r"t must not fall .* got 0\.4, 0\.2, 1"):
        FusionSpec(layers=tuple(LayerMap(layer=n, t=t) for n, t in zip("abc", (0.4, 0.2, 1))))  # noqa: B905
    with pytest.raises(ValidationError, match=r"last .lowest. layer takes t = 1"):
        FusionSpec(layers=(LayerMap(layer="a", t=0.4),))


def test_a_vocabulary_has_a_row_a_word() -> None:
    facts: dict[str, Any] = {
        "layer": "l",
        "dimensions": 3,
        "spec": "s",
        "extraction": "e",
        "rounds": (),
    }
    with pytest.raises(ValidationError, match="one row a word; got 2 rows for 3 words"):
        Vocabulary(words=3, words_requested=3, centroids=file(rows=2), **facts)
    with pytest.raises(ValidationError, match="at most the words requested"):
        Vocabulary(words=4, words_requested=3, **facts)
    with pytest.raises(ValidationError):
        VocabularySpec(rounds=0)


def test_a_snapshot_carries_the_digest_of_what_it_holds(indexed: Indexed) -> None:
    snapshot = indexed.snapshot
    assert IndexSnapshot.from_json(snapshot.to_json()) == snapshot
    stored = json.loads(snapshot.to_json())
    assert stored.pop("seal") == snapshot.digest()
    with pytest.raises(ValidationError, match=r"root digest .* is not that of the contents"):
        IndexSnapshot.model_validate(stored | {"weighting": "tf"})
    with pytest.raises(ValidationError, match=r"47 indexed \+ 0 refused is not 48 images"):
        IndexSnapshot.model_validate(stored | {"indexed": 47})
    renamed = stored | {"number": 9, "published_at": "later", "root": "/elsewhere"}
    assert IndexSnapshot.model_validate(renamed).root_digest == snapshot.root_digest


def test_the_root_digest_covers_every_file(indexed: Indexed) -> None:
    stored = json.loads(indexed.snapshot.to_json()) | {"root_digest": ""}
    del stored["seal"]
    for segment in stored["segments"]:
        for reference in segment["files"].values():
            kept, reference["sha256"] = reference["sha256"], "0" * 64
            changed = IndexSnapshot.model_validate(stored).root_digest
            assert changed != indexed.snapshot.root_digest
            reference["sha256"] = kept
    assert IndexSnapshot.model_validate(stored).root_digest == indexed.snapshot.root_digest


def test_every_query_of_a_run_is_answered_or_refused() -> None:
    run = {
        "run": "mine",
        "inputs": "a" * 64,
        "snapshot": "b" * 64,
        "asked": "pictures",
        "fusion": FusionSpec(layers=(LayerMap(layer="a"),)),
        "weighting": "tf",
        "mode": "exact",
        "k": 3,
        "images": 9,
        "queries": 5,
        "answered": 4,
        "refused": 1,
        "certified": 4,
        "rankings": (file(),),
        "refusals": (file(),),
    }
    assert QueryRun.from_json(QueryRun.model_validate(run).to_json()).queries == 5
    with pytest.raises(ValidationError, match=r"4 answered \+ 1 refused is not 6 queries"):
        QueryRun.model_validate(run | {"queries": 6})
