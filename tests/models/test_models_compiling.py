"""Compiled blocks give what the network gives, at every tap, or say that they cannot be had."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch._dynamo
from models_fakes import noise_frames
from torch import Tensor, nn

from brainsim.commands.extract import extract
from brainsim.core.errors import DeviceError, InvalidValueError
from brainsim.models import MODELS, InputSpec, LoadedModel, ModelRow, Network, ProtocolSpec, load_model, register_rows
from brainsim.models.compiling import CompiledBlocks, explain_compiling, find_blocks
from brainsim.models.networks.masking import RandomMask
from brainsim.stimuli import render_moving_photographs, write_video
from brainsim.store import Store

TINY = [name for name in MODELS if name.endswith("-tiny")]
# Relative L2 error per layer, as docs/models.md states it.
BOUNDS = {"fp32": 1e-5, "bf16": 0.03}
N_FRAMES = 2


class Block(nn.Module):
    """A layer whose output the next one overwrites, and a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.relu = nn.Linear(6, 6), nn.Linear(6, 6), nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        inner: Tensor = self.second(self.relu(self.first(x)))
        return x + inner


class Stubborn(Block):
    """A block that looks at values, which compiled code cannot."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (1 if x.sum().item() < 0 else 2)


class Toy(nn.Module):
    """Three blocks in a list; the last is stubborn where asked."""

    def __init__(self, *, stubborn: bool) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Block(), Block(), Stubborn() if stubborn else Block())
        self.head = nn.Linear(6, 2)

    def forward(self, batch: Tensor) -> None:
        self.head(self.blocks(batch.mean(dim=(-1, -2)).flatten(1)))


def load_toy(row: ModelRow, protocol: str) -> Network:
    return Network(Toy(stubborn=row.name == "stubborn"))


@pytest.fixture(autouse=True)
def toys() -> Iterator[None]:
    row: dict[str, Any] = {
        "family": "toys",
        "kind": "toy",
        "taps": ("blocks.0.first", "blocks.1", "blocks.1.first", "blocks.2.second", "head"),
        "protocols": {"default": ProtocolSpec(InputSpec(n_frames=N_FRAMES, size=(12, 16), layout="frames-channels"))},
        "load": f"{__name__}:load_toy",
        "weights": MODELS["mae-base-tiny"].weights,
    }
    register_rows([ModelRow(name=name, **row) for name in ("toy", "stubborn")])
    yield
    for name in ("toy", "stubborn"):
        MODELS.remove(name)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(autouse=True)
def backend(request: pytest.FixtureRequest, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the C++ compiler where a test is about what is compiled, and not about its code."""
    if request.node.get_closest_marker("slow") is None:
        monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    elif shutil.which("g++") is None:
        pytest.skip("torch compiles with a C++ compiler")
    else:
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(cache))


def relative_l2(got: Tensor, expected: Tensor) -> float:
    return float((got.double() - expected.double()).norm() / expected.double().norm())


def compare(plain: LoadedModel, compiled: LoadedModel, frames: np.ndarray, bound: float) -> None:
    expected, got = plain.activations(frames), compiled.activations(frames)
    assert list(got) == list(expected)
    for layer, values in got.items():
        assert values.shape == expected[layer].shape
        assert relative_l2(values, expected[layer]) < bound, layer


def test_every_tap_is_what_it_was_in_any_batch_and_whatever_else_is_wanted() -> None:
    plain, compiled = load_model("toy"), load_model("toy")
    compiled.compile(4)
    frames = noise_frames(plain.input, n_clips=4)
    for n_clips in (4, 3, 1):
        compare(plain, compiled, frames[:n_clips], BOUNDS["fp32"])
    whole = compiled.activations(frames)
    assert (whole["blocks.0.first"] < 0).any()  # not what the ReLU behind it made of it
    for layers in (["blocks.1.first"], ["blocks.2.second", "blocks.0.first"]):
        for layer, values in compiled.activations(frames[:3], layers).items():
            assert torch.equal(values, whole[layer][:3])


def test_what_compiled_code_cannot_give_is_refused() -> None:
    model = load_model("toy")
    model.compile(4)
    frames = noise_frames(model.input, n_clips=5)
    with pytest.raises(InvalidValueError, match=r"'blocks\.1\.second' of toy lies inside 'blocks\.1', which is compil"):
        model.activations(frames[:2], ["blocks.1.second"])
    with pytest.raises(InvalidValueError, match="5 clips; it is compiled for batches of 4"):
        model.activations(frames)


def test_a_sentence_says_what_the_compiler_did_not_do() -> None:
    said = pytest.raises(DeviceError, match=r"torch cannot compile toy on device cpu \(no compiler\)")
    with said, explain_compiling("toy", torch.device("cpu")):
        raise RuntimeError("\nno compiler\n\nmore words")


def test_a_block_that_torch_cannot_compile_is_a_named_error() -> None:
    with pytest.raises(DeviceError, match="torch cannot compile stubborn on device cpu"):
        load_model("stubborn").compile(2)


def test_a_network_without_blocks_and_a_torch_that_is_told_not_to_are_named_errors() -> None:
    with pytest.raises(InvalidValueError, match="flat has no block of several modules"):
        CompiledBlocks(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), ["0"], name="flat")
    told_not_to = torch._dynamo.config.patch(disable=True)  # type: ignore[no-untyped-call]  # torch does not say
    with told_not_to, pytest.raises(DeviceError, match="torch is told to compile nothing"):
        load_model("toy").compile(2)


@pytest.mark.parametrize(
    ("name", "first", "n"),
    [
        ("mae-base-tiny", "blocks.0", 12), ("videomae-base-tiny", "encoder.layer.0", 12),
        ("cnn-static-object-tiny", "layer1.0", 8), ("cnn-flow-action-tiny", "flow_classifier.layer1.0", 8),
    ],
)  # fmt: skip
def test_blocks_are_the_repeated_parts_and_no_block_holds_another(name: str, first: str, n: int) -> None:
    model = load_model(name, protocol="study")
    blocks = list(find_blocks(model.network.module, [tap.name for tap in model.taps]))
    assert first in blocks
    assert n <= len(blocks) <= n + 2
    assert not any(one.startswith(f"{other}.") for one in blocks for other in blocks)


def test_extraction_has_a_key_of_its_own_and_bits_that_do_not_depend_on_what_was_there(tmp_path: Path) -> None:
    movie = tmp_path / "run.mp4"
    write_video(movie, render_moving_photographs(0, 0, duration_s=3, fps_hz=12, width=64, height=48), 12)
    words: dict[str, Any] = {"models": ["toy", "pixels"], "step_s": 0.5, "batch_size": 4}
    plain = extract(movie, store=tmp_path / "a.zarr", **words)
    whole = extract(movie, store=tmp_path / "a.zarr", compile=True, **words)
    assert whole.feature_sets["toy"] != plain.feature_sets["toy"]
    assert whole.feature_sets["pixels"] == plain.feature_sets["pixels"]  # without weights: not compiled
    extract(movie, store=tmp_path / "b.zarr", compile=True, **words | {"layers": ["blocks.1", "grid"]})
    extract(movie, store=tmp_path / "b.zarr", compile=True, **words)
    one, other = Store(tmp_path / "a.zarr"), Store(tmp_path / "b.zarr")
    for info in other.nodes("activations"):
        values = one.read(info.path, "values")
        np.testing.assert_array_equal(other.read(info.path, "values"), values)
        assert info.attributes["compiled"] == ("toy@" in info.path)
        path = info.path.replace(whole.feature_sets["toy"], plain.feature_sets["toy"])
        np.testing.assert_allclose(values, one.read(path, "values"), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.timeout(900)  # C++ compilers take their time
@pytest.mark.parametrize(("precision", "protocol"), [("fp32", "default"), ("fp32", "study"), ("bf16", "default")])
@pytest.mark.parametrize("name", TINY)
def test_compiled_rows_stay_within_the_stated_bounds_at_every_layer(name: str, precision: str, protocol: str) -> None:
    plain = load_model(name, protocol=protocol)
    compiled = load_model(name, protocol=protocol, precision=precision)
    frames = noise_frames(plain.input)
    compiled.compile(len(frames))
    for model in (plain, compiled):  # what was drawn while compiling must not count
        for module in model.network.module.modules():
            if isinstance(module, RandomMask):
                module.reseed(7)
    compare(plain, compiled, frames, BOUNDS[precision])


@pytest.mark.slow
@pytest.mark.timeout(900)  # C++ compilers take their time
def test_a_full_size_row_stays_within_the_stated_bound_at_every_layer() -> None:
    plain, compiled = (load_model("mae-base", random_weights=True) for _ in range(2))
    compiled.compile(2)
    compare(plain, compiled, noise_frames(plain.input), BOUNDS["fp32"])
