"""A name, an id or a hash is found in every kind of file, and nothing else is taken for one."""

import base64
import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.pipeline.corpus.forgotten import forgotten_digest, forgotten_key, leave_out
from lamella.pipeline.corpus.listing import Entry, Listing
from lamella.pipeline.corpus.passed_over import FORGOTTEN
from lamella.pipeline.evaluate.page_queries import as_script
from lamella.pipeline.store.tables import write_arrow, write_parquet
from lamella.pipeline.upkeep.contents import Wanted

NAME, ID, SHA256 = "cats/7 & <8>.jpg", 4_611_686_018_427_387_905, hashlib.sha256(b"x").hexdigest()

SEARCHES = [
    (Wanted(names=frozenset([NAME])), "its name"),
    (Wanted(ids=frozenset([ID])), "its id"),
    (Wanted(hashes=frozenset([SHA256])), "its hash"),
    (Wanted(keys=frozenset([forgotten_key("name", NAME)])), "its name"),
    (Wanted(keys=frozenset([forgotten_key("sha256", SHA256)])), "its hash"),
]


def table(name: str, image_id: int, sha256: str) -> pa.Table:
    return pa.table(
        {
            "image_id": pa.array([1, image_id], pa.int64()),
            "name": pa.array(["other.jpg", name]),
            "sha256": pa.array([None, bytes.fromhex(sha256)], pa.binary(32)),
        }
    )


@pytest.mark.parametrize(("wanted", "held"), SEARCHES)
def test_each_is_found_in_tables_records_and_pages(
    tmp_path: Path, wanted: Wanted, held: str
) -> None:
    path = tmp_path / "file"
    for name, image_id, sha256, expected in (
        (NAME, ID, SHA256, held),
        (f"more {NAME}x", ID + 1, "0" * 64, None),
        (f"sub/{NAME}", ID - 1, "1" * 64, None),
    ):
        write_parquet(table(name, image_id, sha256), path)
        assert wanted.found_in(path, "parquet") == expected
        write_arrow(table(name, image_id, sha256), path)
        assert wanted.found_in(path, "arrow") == expected
        path.write_text(json.dumps({"a": [{"b": name}, str(image_id), sha256]}))
        assert wanted.found_in(path, "json") == expected
        said = name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        path.write_text(f"<p>{said}</p><b data-id='{image_id}' data-hash='{sha256}'></b>")
        assert wanted.found_in(path, "html") == expected


@pytest.mark.parametrize(("wanted", "held"), SEARCHES)
def test_each_is_found_in_the_data_of_a_page(tmp_path: Path, wanted: Wanted, held: str) -> None:
    path = tmp_path / "page"
    for name, image_id, sha256, expected in (
        (NAME, ID, SHA256, held),
        (f"more {NAME}x", ID + 1, "0" * 64, None),
    ):
        data = as_script({"names": ["other.jpg", name], "more": [str(image_id), sha256]})
        script = f'<script type="application/json" id="data">{data}</script><script>1 < 2</script>'
        path.write_text(f"<p>words</p>{script}")
        assert wanted.found_in(path, "html") == expected


def test_a_picture_inside_a_page_is_found_by_its_hash(tmp_path: Path) -> None:
    path = tmp_path / "page"
    path.write_text(f"<style>url(data:image/jpeg;base64,{base64.b64encode(b'x').decode()})</style>")
    assert Wanted(hashes=frozenset([SHA256])).found_in(path, "html") == "the picture itself"
    assert Wanted(hashes=frozenset(["0" * 64])).found_in(path, "html") is None


def test_a_name_is_found_inside_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "record"
    path.write_text(json.dumps({"text": f"golden query {NAME}: it is gone"}))
    assert Wanted(names=frozenset([NAME])).found_in(path, "json") == "its name"


def test_the_digest_is_the_one_that_is_written_down() -> None:
    text = b"lamella forgotten name\ncats/7.jpg"  # printf ... | sha256sum, as FORMAT.md says
    assert forgotten_digest("name", "cats/7.jpg") == hashlib.sha256(text).hexdigest()


@given(st.lists(st.sampled_from("abcdef"), max_size=12), st.sets(st.sampled_from("abcdefg")))
def test_a_listing_keeps_all_but_the_forgotten_names(names: list[str], forgotten: set[str]) -> None:
    listing = Listing("folder", "/pictures", tuple(Entry(name) for name in names))
    keys = [forgotten_key("name", name) for name in forgotten]
    found = leave_out(listing, keys)
    assert [entry.name for entry in found.entries] == [n for n in names if n not in forgotten]
    gone = len(names) - len(found.entries)
    assert found.passed_over == ({FORGOTTEN: gone} if gone else {})
    assert found.forgotten == tuple(sorted(keys))
