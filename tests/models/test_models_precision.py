"""Half precision: how far each layer is from float32, what is refused, and what the store's keys say of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from models_fakes import noise_frames
from torch import Tensor, nn

from brainsim.commands.extract import extract
from brainsim.commands.extract_jobs import ExtractOptions, feature_key
from brainsim.core.errors import DeviceError, InvalidValueError, NumericalError
from brainsim.core.provenance import digest
from brainsim.models import MODELS, InputSpec, ModelRow, Network, ProtocolSpec, WeightsSource, load_model, register_rows
from brainsim.models import precision as half
from brainsim.store import Store

TINY = [name for name in MODELS if name.endswith("-tiny")]
# Relative L2 error per layer, as docs/models.md states it: about twice the largest that was measured.
BOUNDS = {"fp16": 0.004, "bf16": 0.03}


def relative_l2(got: Tensor, expected: Tensor) -> float:
    return float((got.double() - expected.double()).norm() / expected.double().norm())


@pytest.mark.parametrize("name", TINY)
def test_half_precision_stays_within_the_stated_bounds_at_every_layer(name: str) -> None:
    full = load_model(name)
    frames = noise_frames(full.input)
    expected = full.activations(frames)
    for precision, bound in BOUNDS.items():
        got = load_model(name, precision=precision).activations(frames)
        assert list(got) == list(expected)
        for layer, values in got.items():
            assert values.dtype == torch.float32
            assert 1e-5 < relative_l2(values, expected[layer]) < bound, (precision, layer)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("protocol", ["default", "study"])
@pytest.mark.parametrize("name", TINY)
def test_a_gpu_gives_what_the_cpu_gives(name: str, protocol: str) -> None:
    full = load_model(name, protocol=protocol)
    frames = noise_frames(full.input)
    expected = full.activations(frames)
    for precision, bound in {"fp32": 1e-4, **BOUNDS}.items():
        got = load_model(name, protocol=protocol, precision=precision, device="cuda").activations(frames)
        for layer, values in got.items():
            assert relative_l2(values.cpu(), expected[layer]) < bound, (precision, layer)


@pytest.mark.parametrize(("precision", "dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_a_product_is_that_of_rounded_numbers_summed_exactly(precision: str, dtype: torch.dtype) -> None:
    model = load_model("cnn-static-object-tiny", precision=precision)
    frames = noise_frames(model.input)
    weight = model.network.module.get_parameter("conv1.weight")
    frames_rounded, weight_rounded = (tensor.to(dtype).double() for tensor in (model.prepare(frames), weight))
    expected = nn.functional.conv2d(frames_rounded, weight_rounded, stride=2, padding=3)
    got = model.activations(frames, ["conv1"])["conv1"]
    # What comes out is rounded once more: half a unit in the last place, and a little for float32 sums.
    assert bool(((got - expected).abs() <= 0.51 * torch.finfo(dtype).eps * expected.abs() + 1e-6).all())


def test_weights_stay_float32_and_keep_their_digest() -> None:
    full, fast = load_model("mvd-base-tiny"), load_model("mvd-base-tiny", precision="fp16")
    assert fast.weights_digest == full.weights_digest
    assert {p.dtype for p in fast.network.module.parameters()} == {torch.float32}


class Loud(nn.Module):
    """Two layers: the products of the first reach 1e5 where the picture is white, the second brings them to 100."""

    def __init__(self) -> None:
        super().__init__()
        self.loud = nn.Linear(10, 4, bias=False)
        self.calm = nn.Linear(4, 1, bias=False)
        nn.init.constant_(self.loud.weight, 1e4)
        nn.init.constant_(self.calm.weight, 2.5e-4)

    def forward(self, batch: Tensor) -> Tensor:
        calm: Tensor = self.calm(self.loud(batch.mean(dim=(1, 2, 3))[:, None].expand(-1, 10)))
        return calm


class Odd(nn.Module):
    """A layer whose forward pass says what torch says of an operation that it does not have."""

    message = ""

    def __init__(self) -> None:
        super().__init__()
        self.only = nn.Identity()

    def forward(self, batch: Tensor) -> Tensor:
        if not batch.is_meta:
            raise RuntimeError(self.message)
        same: Tensor = self.only(batch)
        return same


def load_loud(row: ModelRow, protocol: str) -> Network:
    return Network(Loud())


def load_odd(row: ModelRow, protocol: str) -> Network:
    return Network(Odd())


@pytest.fixture
def loud() -> Iterator[None]:
    protocols = {"default": ProtocolSpec(InputSpec(n_frames=1, size=(8, 8)))}
    own = WeightsSource("own", "constants")
    rows = [
        ModelRow("loud", "toys", "toy", ("loud", "calm"), protocols, f"{__name__}:load_loud", weights=own),
        ModelRow("odd", "toys", "toy", ("only",), protocols, f"{__name__}:load_odd", weights=own),
    ]
    register_rows(rows)
    yield
    for row in rows:
        MODELS.remove(row.name)


WHITE = np.full((1, 1, 8, 8, 3), 255, np.uint8)


@pytest.mark.usefixtures("loud")
def test_overflow_is_an_error_that_names_the_layer_and_bf16() -> None:
    with pytest.raises(
        NumericalError, match=r"loud, layer loud: 4 of 4 .* not finite in fp16, which ends at 65504"
    ) as e:
        load_model("loud", precision="fp16").activations(WHITE)
    assert "--precision bf16" in str(e.value.hint)
    # What overflowed before a layer is found behind it.
    with pytest.raises(NumericalError, match="layer calm"):
        load_model("loud", precision="fp16").activations(WHITE, ["calm"])
    assert load_model("loud", precision="bf16").activations(WHITE)["loud"][0, 0] == pytest.approx(1e5, rel=0.01)
    assert load_model("loud", precision="fp16").activations(WHITE // 2)["calm"].item() == pytest.approx(
        100 * 127 / 255, rel=0.01
    )


@pytest.mark.usefixtures("loud")
def test_extract_keeps_nothing_of_what_overflowed_and_says_where(tmp_path: Path) -> None:
    movie = np.zeros((6, 8, 8, 3), np.uint8)
    movie[4:] = 255
    np.save(tmp_path / "flash.npy", movie)
    ask = {"models": ["loud"], "store": tmp_path / "s.zarr", "frame_s": 1.0, "device": "cpu", "batch_size": 2}
    with pytest.raises(NumericalError, match="layer loud") as caught:
        extract([tmp_path / "flash.npy"], precision="fp16", **ask)  # type: ignore[arg-type]  # options of many types
    assert "in clips 4 to 5 of flash; nothing of it is kept." in caught.value.__notes__
    assert Store(tmp_path / "s.zarr", "r").nodes("activations") == []
    done = extract([tmp_path / "flash.npy"], precision="bf16", **ask)  # type: ignore[arg-type]  # as above
    assert done.n_nodes_written == 2
    assert done.warnings == ()
    movie[4:] = 100
    np.save(tmp_path / "dim.npy", movie)
    slow = extract([tmp_path / "dim.npy"], precision="fp16", **ask)  # type: ignore[arg-type]  # as above
    assert slow.n_nodes_written == 2
    assert slow.warnings == ("loud: fp16 on a CPU is slower than fp32, above all in 3-D convolutions; bf16 is not.",)


@pytest.mark.usefixtures("loud")
def test_operation_without_half_precision_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = WHITE
    monkeypatch.setattr(Odd, "message", "'lu_cpu' not implemented for 'Half'\nmore")
    with pytest.raises(DeviceError, match=r"odd cannot be run in fp16 on device cpu .* for 'Half'"):
        load_model("odd", precision="fp16").activations(frames)
    with pytest.raises(RuntimeError, match="not implemented for") as caught:  # float32 has nothing to do with it
        load_model("odd").activations(frames)
    assert not isinstance(caught.value, DeviceError)
    monkeypatch.setattr(Odd, "message", "out of memory")
    with pytest.raises(RuntimeError, match="out of memory"):
        load_model("odd", precision="bf16").activations(frames)


def test_device_that_goes_on_in_float32_or_refuses_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("this device has no bfloat16\nat all")

    monkeypatch.setattr(half, "_autocast", lambda *_: nullcontext())
    with pytest.raises(DeviceError, match=r"precision bf16 cannot be had on device cpu\.") as caught:
        load_model("mae-base-tiny", precision="bf16")
    assert caught.value.hint == "--precision fp32"
    monkeypatch.setattr(half, "_autocast", refuse)
    with pytest.raises(DeviceError, match=r"on device cpu \(this device has no bfloat16\)\."):
        load_model("mae-base-tiny", precision="bf16")
    with pytest.raises(InvalidValueError, match=r"precision is 'fp8'"):
        load_model("mae-base-tiny", precision="fp8")


def _key(name: str, *, protocol: str = "default", precision: str = "fp32") -> dict[str, object]:
    options = ExtractOptions(
        layers=("*",), pool="none", dtype="float32", step_s=1.0, clip_window="trailing", resize="crop", tap=None,
        checkpoint=None, random_weights=True, seed=0, device="cpu", batch_size=8, overwrite=False, protocol=protocol,
        precision=precision,
    )  # fmt: skip
    return feature_key(MODELS[name], options)


def test_full_precision_keeps_the_keys_that_were_before_the_option() -> None:
    before = {  # computed by the version without it
        ("cnn-flow-action", "default"): "d8960eb4",
        ("mae-base", "default"): "ea6ed05a",
        ("mae-base", "study"): "3b1626ae",
        ("videomae-base", "study"): "f71de48d",
        ("mvd-base", "default"): "1c3ca0f2",
        ("mae-base-tiny", "study"): "3bab3b0f",
        ("pixels", "default"): "dce0d9d0",
    }
    assert {(n, p): digest(_key(n, protocol=p))[:8] for n, p in before} == before


def test_half_precision_is_part_of_the_key_and_nothing_else_changes() -> None:
    full = _key("mae-base")
    for precision in BOUNDS:
        assert _key("mae-base", precision=precision) == {**full, "precision": precision}


def test_models_without_weights_are_always_exact() -> None:
    assert _key("contrast-energy", precision="bf16") == _key("contrast-energy")
    full, asked = load_model("contrast-energy"), load_model("contrast-energy", precision="bf16")
    frames = noise_frames(full.input)
    assert torch.equal(asked.activations(frames)["grid"], full.activations(frames)["grid"])


def test_extract_stores_what_the_model_gives_in_that_precision_beside_the_full_one(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "noise.npy", rng.integers(0, 256, (3, 64, 64, 3), dtype=np.uint8))
    ask = {
        "models": ["cnn-static-object-tiny"], "store": tmp_path / "s.zarr", "layers": ["layer4.1.conv2"],
        "frame_s": 1.0, "device": "cpu",
    }  # fmt: skip
    runs = [extract([tmp_path / "noise.npy"], precision=p, **ask) for p in ("fp32", "bf16", "bf16")]  # type: ignore[arg-type]  # options of many types
    assert [run.n_nodes_written for run in runs] == [1, 1, 0]
    store = Store(tmp_path / "s.zarr", "r")
    values = {}
    for run in runs[:2]:
        node = f"activations/{run.feature_sets['cnn-static-object-tiny']}/layer4.1.conv2/noise"
        values[store.info(node).attributes["precision"]] = store.read(node, "values")
    assert set(values) == {"fp32", "bf16"}
    frames = np.load(tmp_path / "noise.npy")[:, None]
    got = load_model("cnn-static-object-tiny", precision="bf16").activations(frames)["layer4.1.conv2"]
    np.testing.assert_array_equal(values["bf16"], got.flatten(1).numpy())
    assert not np.array_equal(values["bf16"], values["fp32"])
