"""Our network is cut as torchvision would cut it, and opened without torchvision."""

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import feature_extraction as theirs

from lamella.pipeline.extract.backbone import Backbone
from lamella.pipeline.jobs.resolve import resolve_extraction
from lamella.pipeline.jobs.settings import load_job
from lamella.pipeline.networks.efficientnet_lite import EfficientNetLite, SameConv
from lamella.pipeline.networks.graph import cut, output_names
from lamella.pipeline.networks.lite_layout import SCALES
from lamella.pipeline.networks.weights import LITE0

ROOT = Path(__file__).parents[3]
KEPT_WHOLE = {"leaf_modules": [SameConv]}


@pytest.mark.parametrize("network", SCALES)
def test_outputs_have_the_names_that_torchvision_gives_them(network: str) -> None:
    model = EfficientNetLite(network).eval()
    assert output_names(model) == theirs.get_graph_node_names(model, tracer_kwargs=KEPT_WHOLE)[1]


def test_a_cut_gives_the_same_bits_as_torchvision_and_keeps_nothing_above() -> None:
    torch.manual_seed(0)
    model = EfficientNetLite(LITE0).eval()
    names = ["blocks.4.add", "blocks.5.expanded", "blocks.2.filtered"]
    ours = cut(model, names)
    other = theirs.create_feature_extractor(model, names, tracer_kwargs=dict(KEPT_WHOLE)).eval()
    pixels = torch.randn(2, 3, 40, 64)
    with torch.inference_mode():
        found, expected = ours(pixels), other(pixels)
    assert list(found) == names
    assert all(torch.equal(found[name], expected[name]) for name in names)
    assert {name for name, _ in ours.named_parameters()} == {
        name for name, _ in other.named_parameters()
    }
    assert not any(name.startswith(("blocks.6", "head")) for name, _ in ours.named_modules())


def test_networks_with_names_of_their_own_open_and_look_without_torchvision() -> None:
    code = """
import sys
import numpy as np
from lamella.pipeline.extract.backbone import Backbone
from lamella.pipeline.jobs.resolve import resolve_extraction
from lamella.schemas.job import JobConfig

for name in ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"):
    job = JobConfig.model_validate({"network": {"name": name, "layers": ["head", "b11", "p10"]}})
    backbone = Backbone(*resolve_extraction(job))
    outputs = backbone.forward(np.zeros((1, 64, 64, 3), np.uint8), "whole")
    assert sorted(outputs) == ["blocks.10.add", "blocks.11.expanded", "head_act"], sorted(outputs)
print(*sorted({"torchvision", "torchcodec", "torch._dynamo"} & set(sys.modules)))
"""
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == []


def test_a_network_may_be_cut_while_another_thread_passes_pictures_through_one() -> None:
    """Tracing replaces how modules are called, in every thread of a process."""
    backbone = Backbone(*resolve_extraction(load_job(None)))
    pixels = np.zeros((backbone.spec.batch_size, 64, 64, 3), np.uint8)
    (view,) = backbone.views
    wanted = {name: out.clone() for name, out in backbone.forward(pixels, view).items()}
    failed: list[Exception] = []
    done = threading.Event()

    def passes() -> None:
        while not done.is_set():
            try:
                found = backbone.forward(pixels, view)
                assert all(torch.equal(found[name], out) for name, out in wanted.items())
            except Exception as error:
                failed.append(error)
                return

    thread = threading.Thread(target=passes)
    thread.start()
    for _ in range(3):
        output_names(EfficientNetLite(LITE0).eval())
    done.set()
    thread.join()
    assert failed == []
