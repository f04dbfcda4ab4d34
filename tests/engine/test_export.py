"""The evaluation list in plain torch operations: what it gives, and that it exports."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gpuaug as ga
from tests.support.helpers import FAST, noise

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FLOATS = [ga.ToDtype(torch.float32, scale=True), ga.Normalize(MEAN, STD)]
LISTS: dict[str, tuple[list[Any], int]] = {  # list, channels of the images
    "imagenet": ([ga.Resize(40), ga.CenterCrop(32), *FLOATS], 3),
    "bicubic": ([ga.Resize((33, 47), "bicubic"), ga.ToDtype(torch.float16)], 3),
    "not antialiased": ([ga.Resize((20, 90), antialias=False), *FLOATS], 3),
    "nearest": ([ga.Resize(21, "nearest"), ga.CenterCrop(18)], 1),
    "padded": ([ga.CenterCrop(100), ga.Pad((1, 2, 3, 4), (9, 8, 7)), *FLOATS], 3),
    "reflected": ([ga.Pad(5, padding_mode="reflect"), ga.Resize(30)], 5),
    "grey": ([ga.Grayscale(1), ga.Pad(3, 7), ga.Resize(20), ga.ToDtype(torch.bfloat16), ga.Normalize(0.5, 0.5)], 3),
    "grey, three channels": ([ga.Resize(30), ga.Grayscale(3), ga.CenterCrop(20)], 3),
    "from grey": ([ga.RGB(), ga.Identity(), ga.Resize(20), *FLOATS], 1),
    "cut off": ([ga.Pad((-5, 3, 2, -9), 7), ga.Resize(30)], 3),
    "nothing": ([], 3),
}
SIZE = (44, 61)
TRACE = r"ignore:.torch\.jit\.trace"  # deprecated; the kind of warning depends on versions


def level(result: Tensor) -> float:
    """What one level is in the result's units."""
    return 1.0 if not result.is_floating_point() else 1.01 / 255 / min(STD)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("name", LISTS)
def test_it_gives_what_augment_gives(name: str, memory_format: Any) -> None:
    steps, channels = LISTS[name]
    augment = ga.Augment([], steps, backend=FAST, memory_format=memory_format).eval()
    module = augment.eval_module(SIZE, channels)
    images = noise(4, channels, *SIZE)
    expected, result = augment(images), module(images)
    assert (result.dtype, result.shape) == (expected.dtype, expected.shape)
    assert result.is_contiguous(memory_format=memory_format)
    difference = (result.float() - expected.float()).abs()
    assert difference.max() <= level(expected)
    assert (difference > 0).float().mean() < 1e-3
    assert torch.equal(module(images.float()), result)
    assert name == "nothing" or not torch.equal(module(images.flip(-1)), result)  # the comparison can fail
    assert list(module.state_dict()) == list(module.parameters()) == []


class Model(nn.Module):
    def __init__(self, augment: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.augment, self.backbone = augment, nn.Conv2d(3, 2, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.backbone(self.augment(images))


@pytest.fixture
def model() -> Model:
    return Model(ga.Augment([], LISTS["imagenet"][0]).eval_module(SIZE)).eval()


@pytest.mark.filterwarnings(TRACE)
def test_it_is_exported_traced_and_compiled(model: Model) -> None:
    images = noise(2, 3, *SIZE)
    expected = model(images)
    batch = {0: torch.export.Dim("batch", min=1, max=64)}
    program = torch.export.export(model, (images,), dynamic_shapes=(batch,))
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for run in (program.module(), torch.jit.trace(model, images), compiled):
        assert torch.allclose(run(images), expected, atol=1e-5)
    assert torch.allclose(program.module()(noise(5, 3, *SIZE)), model(noise(5, 3, *SIZE)), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
def test_it_runs_in_onnx(model: Model, dtype: torch.dtype) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    images = noise(2, 3, *SIZE).to(dtype)
    file = io.BytesIO()
    torch.onnx.export(model, (images,), dynamo=True, verbose=False).save(file)
    session = runtime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    assert np.abs(result - model(images).detach().numpy()).max() < 1e-4


def test_what_cannot_be_exported_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"Augment\.eval_module: `eval` must be a list of Resize, .*, got RandomInvert"
    ):
        ga.Augment([], [ga.Resize(9), ga.RandomInvert(1.0)]).eval_module(40)
    module = ga.Augment([ga.RandomResizedCrop(9)]).eval_module((40, 30), channels=1)
    with pytest.raises(
        ValueError, match=r"`images` must be \(B, 1, 40, 30\), for which this module was made, got uint8"
    ):
        module(noise(2, 1, 30, 40))
    with pytest.raises(ValueError, match=r"`channels` must be an integer of at least 1"):
        ga.Augment([]).eval_module(40, channels=0)


@pytest.mark.filterwarnings(TRACE)
@pytest.mark.parametrize("training", [False, True])
def test_augment_itself_says_that_it_cannot_be_exported(training: bool) -> None:
    model, images = Model(ga.Augment(FLOATS)).train(training), noise(2)
    ways = [
        lambda: torch.export.export(model, (images,)),
        lambda: torch.jit.trace(model, images),
        lambda: torch.compile(model, fullgraph=True, backend="eager")(images),
    ]
    for way in ways:
        with pytest.raises(
            Exception, match=r"cannot be traced or exported\. Export augment\.eval_module\(\(height, width\)\)"
        ):
            way()
