"""The planted corpus: the same for a seed, whole or absent, cut from objects that differ."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lamella.pipeline.errors import InputError
from lamella.pipeline.planted import photographs as photographs_module
from lamella.pipeline.planted.generate import PlantedCorpus, generate, generate_pictures
from lamella.pipeline.planted.photographs import (
    PHOTOGRAPHS,
    Patch,
    choose_objects,
    data_folder,
    load_photographs,
)
from lamella.pipeline.planted.views import KINDS, draw_view

pytest.importorskip("skimage", reason="the photographs are scikit-image's")


@pytest.fixture(scope="module")
def photographs() -> list[Image.Image]:
    return load_photographs()


def digest(folder: Path) -> str:
    """Return one SHA-256 over all names and bytes in a folder."""
    whole = hashlib.sha256()
    for file in sorted(folder.rglob("*.jpg")):
        whole.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes())
    return whole.hexdigest()


def test_same_seed_gives_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("first", 3), ("again", 3), ("other", 4)):
        generate(tmp_path / name, objects=2, views=2, seed=seed)
    assert digest(tmp_path / "first") == digest(tmp_path / "again")
    assert digest(tmp_path / "first") != digest(tmp_path / "other")


def test_names_and_counts(tmp_path: Path) -> None:
    folder = tmp_path / "absent" / "corpus"
    seen: list[tuple[int, int]] = []
    corpus = generate(
        folder, objects=3, views=2, on_progress=lambda done, of: seen.append((done, of))
    )
    assert corpus == PlantedCorpus(folder=folder, objects=3, views=2, pictures=6)
    assert seen == [(done, 6) for done in range(1, 7)]
    names = [file.relative_to(folder).as_posix() for file in sorted(folder.rglob("*.*"))]
    assert names == [f"object_000{o}/view_{v}.jpg" for o in range(3) for v in range(2)]
    assert [entry.name for entry in folder.parent.iterdir()] == ["corpus"]


def test_so_many_pictures_are_made_or_a_few_more(tmp_path: Path) -> None:
    made = generate_pictures(tmp_path / "five", 5)
    assert (made.objects, made.views, made.pictures) == (2, 3, 6)


def test_a_view_does_not_depend_on_how_many_others_are_made(tmp_path: Path) -> None:
    generate(tmp_path / "few", objects=1, views=1)
    generate(tmp_path / "more", objects=2, views=3)
    name = "object_0000/view_0.jpg"
    assert (tmp_path / "few" / name).read_bytes() == (tmp_path / "more" / name).read_bytes()


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    generate(folder, objects=1, views=1)
    assert [file.name for file in folder.rglob("*.jpg")] == ["view_0.jpg"]


def test_a_folder_that_holds_something_is_refused_and_left_alone(tmp_path: Path) -> None:
    kept = tmp_path / "kept.txt"
    kept.write_text("mine")
    with pytest.raises(InputError, match=r"holds 1 entries: give another folder"):
        generate(tmp_path, objects=1, views=1)
    assert list(tmp_path.iterdir()) == [kept]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "corpus"
    file.write_text("mine")
    with pytest.raises(InputError, match="is a file"):
        generate(file, objects=1, views=1)
    assert file.read_text() == "mine"


def test_a_run_stopped_half_way_leaves_nothing(tmp_path: Path) -> None:
    def stop_at_second(done: int, pictures: int) -> None:
        assert not (tmp_path / "corpus").exists()
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / "corpus", objects=2, views=2, on_progress=stop_at_second)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_filled_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"

    def another_writes(done: int, pictures: int) -> None:
        folder.mkdir()
        (folder / "theirs.jpg").write_bytes(b"")

    with pytest.raises(InputError, match="holds 1 entries"):
        generate(folder, objects=1, views=1, on_progress=another_writes)
    assert [entry.name for entry in folder.iterdir()] == ["theirs.jpg"]


@pytest.mark.parametrize("wrong", [{"objects": 0}, {"views": 0}, {"seed": -1}])
def test_values_out_of_range_are_refused(tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match="must be at least 1"):
        generate(tmp_path / "corpus", **wrong)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_more_objects_than_there_are_is_refused_with_how_many_there_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"hold \d+ distinct objects, 10000 were asked for"):
        generate(tmp_path / "corpus", objects=10_000)


def test_a_missing_photograph_is_named_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in PHOTOGRAPHS:
        if name != "coffee.png":
            (tmp_path / name).symlink_to(data_folder() / name)
    monkeypatch.setattr(photographs_module, "data_folder", lambda: tmp_path)
    with pytest.raises(InputError, match=r"needs coffee\.png.*pip install lamella\[demo\]"):
        load_photographs()


def test_shared_area_is_of_the_smaller_patch() -> None:
    # 20 x 20 at (0, 0) and 10 x 10 at (15, 10) share 5 x 10 = 50 of 100.
    large, small = Patch(0, 0, 0, 20, 20), Patch(0, 15, 10, 10, 10)
    assert large.shared(small) == small.shared(large) == 0.5
    assert large.shared(Patch(1, 0, 0, 20, 20)) == 0.0
    assert large.shared(Patch(0, 20, 0, 20, 20)) == 0.0


def test_a_hundred_objects_lie_inside_and_hardly_overlap(photographs: list[Image.Image]) -> None:
    objects = choose_objects(photographs, 100)
    assert len(set(objects)) == 100
    for number, patch in enumerate(objects):
        width, height = photographs[patch.photograph].size
        assert patch.left + patch.width <= width
        assert patch.top + patch.height <= height
        assert all(patch.shared(other) <= 0.2 for other in objects[:number])
    assert choose_objects(photographs, 20) == objects[:20]


@pytest.mark.parametrize("view", range(len(KINDS)))
def test_every_kind_of_view_is_a_picture_that_shows_something(
    photographs: list[Image.Image], view: int
) -> None:
    patch = choose_objects(photographs, 1)[0]
    stored = draw_view(photographs, patch, view, np.random.default_rng(view))
    with Image.open(io.BytesIO(stored)) as picture:
        assert picture.format == "JPEG"
        assert picture.size in ((320, 240), (240, 320), (288, 288))
        assert np.asarray(picture.convert("L")).std() > 10
