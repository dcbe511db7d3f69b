"""Settings of the whole process, wanted by two threads."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from types import SimpleNamespace

import pytest
import torch

from lamella.pipeline.extract.determinism import fixed_arithmetic
from lamella.pipeline.torch_settings import settings
from lamella.pipeline.vocabulary.on_gpu import product


def test_settings_hold_inside_and_are_set_back() -> None:
    holder = SimpleNamespace(name="before")

    def fails() -> None:
        with settings([(holder, "name", "wanted")]):
            raise OSError(holder.name)

    with pytest.raises(OSError, match="wanted"):
        fails()
    assert holder.name == "before"


def test_a_product_in_another_thread_waits_for_the_pass() -> None:
    # Words are found in TF32 beside a network that was asked for in float32.
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    ones = torch.ones(2, 2)
    begun = Event()

    def find() -> torch.Tensor:
        begun.set()
        return product(ones, ones, ones, tf32=True)

    with ThreadPoolExecutor(1) as pool:
        with fixed_arithmetic(torch.device("cuda"), "float32"):
            found = pool.submit(find)
            assert begun.wait(60)
            with pytest.raises(TimeoutError):
                found.result(timeout=0.2)
            assert matmul.fp32_precision == "ieee"
        assert torch.equal(found.result(), ones + 2)
    assert matmul.fp32_precision == before
