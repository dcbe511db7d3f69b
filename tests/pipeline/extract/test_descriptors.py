import numpy as np
import pytest
import torch

from lamella.pipeline.extract.descriptors import Descriptors, global_vectors, local_descriptors
from lamella.schemas.extraction import LayerSpec, Pool

OUTPUT = torch.relu(torch.randn((3, 5, 4, 6), generator=torch.Generator().manual_seed(2)))


def layer(pool: Pool, gem_power: float = 3.0) -> LayerSpec:
    return LayerSpec(name="top", node="n", kind="global", pool=pool, gem_power=gem_power)


def test_pooling_is_that_of_plain_numpy() -> None:
    array = OUTPUT.double().numpy()
    gem = np.cbrt((np.maximum(array, 1e-6) ** 3).mean(axis=(2, 3)))
    expected: dict[Pool, np.ndarray] = {
        "average": array.mean(axis=(2, 3)),
        "maximum": array.max(axis=(2, 3)),
        "gem": gem,
    }
    for pool, values in expected.items():
        found = global_vectors(OUTPUT, layer(pool))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, values, rtol=1e-5)


def test_gem_is_the_average_at_1_and_nears_the_maximum() -> None:
    average, maximum = (global_vectors(OUTPUT, layer(pool)) for pool in ("average", "maximum"))
    np.testing.assert_allclose(global_vectors(OUTPUT, layer("gem", 1.0)), average, rtol=1e-4)
    assert np.all(global_vectors(OUTPUT, layer("gem", 20.0)) <= maximum * (1 + 1e-5))


def test_a_vector_is_kept_as_it_is_and_a_map_must_be_pooled() -> None:
    vectors = torch.randn((3, 8))
    assert np.array_equal(global_vectors(vectors, layer("none")), vectors.numpy())
    single = torch.randn((3, 8, 1, 1))
    assert np.array_equal(global_vectors(single, layer("none")), single[:, :, 0, 0].numpy())
    with pytest.raises(ValueError, match=r"top gives a map of \(5, 4, 6\): pool it"):
        global_vectors(OUTPUT, layer("none"))


def test_every_position_is_a_descriptor_of_unit_length() -> None:
    output = OUTPUT.clone()
    output[1, :, 2, 3] = 0  # says nothing: dropped
    found = local_descriptors(output, np.array([7, 9]))  # the third picture is padding
    expected = [
        (image_id, y, x, output[slot, :, y, x].numpy())
        for slot, image_id in enumerate((7, 9))
        for y in range(4)
        for x in range(6)
        if output[slot, :, y, x].any()
    ]
    assert len(expected) <= 2 * 24 - 1
    assert found.image_ids.tolist() == [each[0] for each in expected]
    assert found.y.tolist() == [each[1] for each in expected]
    assert found.x.tolist() == [each[2] for each in expected]
    unit = np.array([each[3] / np.linalg.norm(each[3]) for each in expected])
    assert found.vectors.dtype == np.float16
    np.testing.assert_allclose(found.vectors, unit, atol=5e-4)


def test_a_layer_without_positions_has_no_local_descriptors() -> None:
    with pytest.raises(ValueError, match=r"needs positions; it gives \(3, 8\)"):
        local_descriptors(torch.randn((3, 8)), np.array([0]))


def test_parts_of_descriptors_belong_together() -> None:
    two, three = np.zeros(2, np.uint16), np.zeros(3, np.uint16)
    with pytest.raises(ValueError, match="differ in length"):
        Descriptors(np.zeros(2, np.int64), two, three, np.zeros((2, 4), np.float16))
