from pathlib import Path
from statistics import median
from unittest import mock

import pytest

from lamella.pipeline.bench import extract
from lamella.pipeline.bench.extract import Step, ceiling_of, try_extraction
from lamella.pipeline.bench.extract_steps import STEPS, choose_pictures
from lamella.pipeline.bench.wait_times import DECODE_ON_GPU
from lamella.pipeline.corpus.decode import DecodeLimits
from lamella.pipeline.errors import InputError
from lamella.pipeline.run.drive import Progress
from lamella.schemas.extraction import PreprocessSpec, RgbRecipe
from tests.pictures import draw_jpegs
from tests.pipeline.extract.specs import random_weights, spec_of
from tests.tiny import tiny_pictures

SMALL = PreprocessSpec(short_edge=64, crop=64)


def test_steps_that_share_cores_add_up() -> None:
    # Two cores, 2 + 6 ms a picture by any thread, 1 ms by the writer: 9 ms of 2 cores.
    steps = [
        Step("decode", False, 2, 0.002, 1000.0),
        Step("forward", False, 2, 0.006, 333.3),
        Step("write", False, 1, 0.001, 1000.0),
    ]
    assert ceiling_of(steps, cores=2) == pytest.approx(2 / 0.009)


def test_beside_a_gpu_the_slowest_counts() -> None:
    # 16 cores decode a picture in 8 / 16 = .5 ms and write in 1 ms of one; the GPU takes
    # 1 + 1 = 2 ms.
    decode, write = Step("decode", False, 16, 0.008, 2000.0), Step("write", False, 1, 0.001, 1000.0)
    on_gpu = [Step(name, True, 1, 0.001, 1000.0) for name in ("forward", "descriptors")]
    assert ceiling_of([decode, *on_gpu, write], cores=16) == pytest.approx(500)
    assert ceiling_of([decode, on_gpu[0], write], cores=16) == pytest.approx(1000)
    # A GPU decodes in 1.5 ms beside its passes: they are the slowest still; in 2.5 ms no more.
    for seconds, rate in ((0.0015, 500), (0.0025, 400)):
        decoding = Step(DECODE_ON_GPU, True, 1, seconds, 1 / seconds)
        assert ceiling_of([decode, decoding, *on_gpu, write], cores=16) == pytest.approx(rate)
    # One writer of 3 ms is slower than all else, though the cores would have time for more.
    slow = Step("write", False, 1, 0.003, 333.3)
    assert ceiling_of([decode, *on_gpu, slow], cores=16) == pytest.approx(1 / 0.003)


@pytest.mark.parametrize(("batch_size", "recipe"), [(1, "rgb-2"), (3, "rgb-2"), (3, "torch-1")])
def test_a_trial_says_what_it_did_and_leaves_nothing(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, batch_size: int, recipe: RgbRecipe
) -> None:
    preprocess = SMALL.model_copy(update={"rgb_recipe": recipe})
    spec, weights = spec_of(
        "efficientnet_lite0", "head", "b11", preprocess=preprocess, batch_size=batch_size
    )
    drawn = tmp_path_factory.mktemp("drawn")
    draw_jpegs(drawn, 6, (80, 100))
    pictures = choose_pictures(str(drawn), 6, DecodeLimits())
    stands: list[Progress] = []
    with mock.patch.object(extract, "ceiling_of", wraps=ceiling_of) as ceilings:
        found = try_extraction(
            tmp_path,
            pictures,
            spec,
            weights,
            threads=2,
            device="cpu",
            rounds=2,
            on_progress=stands.append,
        )
    assert (found.pictures, found.threads, found.rounds, found.batch_size) == (6, 2, 2, batch_size)
    assert [step.name for step in found.steps] == list(STEPS)
    assert [step.threads for step in found.steps] == [2, 2, 2, 2, 1]
    # Threads that share cores are together no faster than any step alone, in each round.
    rounds = [ceiling_of(*call.args) for call in ceilings.call_args_list]
    for most, call in zip(rounds, ceilings.call_args_list, strict=True):
        assert most <= min(step.pictures_per_second for step in call.args[0])
    assert len(rounds) == 2
    assert found.ceiling == median(rounds)
    assert found.pipeline > 0
    assert 0 <= sum(found.waiting.values()) <= 1 + 1e-6
    assert 0 <= found.writing <= 1
    assert [stand.units_done for stand in stands] == [0, 6, 12]
    assert list(tmp_path.iterdir()) == []


def test_layers_of_several_views_are_tried_too(planted: Path, tmp_path: Path) -> None:
    weights = random_weights("alexnet", tmp_path / "weights.safetensors")
    spec, path = spec_of("alexnet", "fc2", "conv4", weights=weights, batch_size=1)
    pictures = choose_pictures(str(planted), 2, DecodeLimits())
    (tmp_path / "scratch").mkdir()
    found = try_extraction(
        tmp_path / "scratch", pictures, spec, path, threads=1, device="cpu", rounds=1
    )
    assert found.layers == ("fc2", "conv4")


def test_pictures_are_chosen_from_all_of_a_source(planted: Path) -> None:
    pictures = choose_pictures(str(planted), 12, DecodeLimits())
    assert len({str(row["name"]).partition("/")[0] for row in pictures.rows}) == 12
    assert len(choose_pictures(str(planted), 1000, DecodeLimits()).rows) == 48


def test_what_cannot_be_decoded_is_left_out(tmp_path: Path) -> None:
    some = tiny_pictures(tmp_path / "some", count=6, broken=2)
    assert len(choose_pictures(str(some), 10, DecodeLimits()).rows) == 4
    none = tiny_pictures(tmp_path / "none", count=1, broken=1)
    with pytest.raises(InputError, match="none of 1 files tried"):
        choose_pictures(str(none), 10, DecodeLimits())


def test_a_trial_by_no_thread_is_refused(planted: Path, tmp_path: Path) -> None:
    spec, weights = spec_of("efficientnet_lite0", "head")
    pictures = choose_pictures(str(planted), 1, DecodeLimits())
    with pytest.raises(ValueError, match="at least 1; got 0 and 3"):
        try_extraction(tmp_path, pictures, spec, weights, threads=0)
