"""Turn a family of models into the tests that every family must pass.

Inherit `ModelConformance` (`TokenConformance` for transformers) under a name that begins with Test and fill its hooks:
the rows, the shapes of their layers, the activations by an implementation that is not the family's own. Small rows run
in the normal suite, others where `is_slow` says so with the slow tests.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models_fakes import noise_frames, relative_error
from torch import Tensor, nn

from brainsim.models import LoadedModel, ModelRow, ProtocolSpec, find_row, load_model, tap_infos, weights_key
from brainsim.models.inputs import batch_shape
from brainsim.models.network import build_network, digest_state
from brainsim.models.networks.masking import RandomMask
from brainsim.models.taps import capture, trace_taps

# float32 in another order of operations, twelve blocks deep.
TOLERANCE = 1e-5
# Random masks start here in every test, so that a reference can draw the same noise.
MASK_SEED = 20
# Patches that are changed one by one: enough to tell any order of axes from another.
N_PATCHES_TRIED = 12


@dataclass(frozen=True)
class Case:
    """One row in one protocol, loaded with random weights.

    Parameters
    ----------
    row : ModelRow
        What is tested.
    protocol : str
        "default" or "study".
    model : LoadedModel
        On the CPU.
    """

    row: ModelRow
    protocol: str
    model: LoadedModel

    def run(self, frames: np.ndarray, layers: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """Return the activations with random masks started afresh."""
        self.restart()
        return {name: values.numpy() for name, values in self.model.activations(frames, layers).items()}

    def end_of(self, frames: np.ndarray) -> list[Tensor]:
        """Return what the whole network gives, with random masks started afresh."""
        outputs: list[list[Tensor]] = []
        handle = self.model.network.module.register_forward_hook(lambda _, __, out: outputs.append(find_tensors(out)))
        try:
            self.restart()
            with torch.inference_mode():
                self.model.network.forward(self.model.prepare(frames))
        finally:
            handle.remove()
        (found,) = outputs
        return found

    def restart(self) -> None:
        """Start random masks afresh."""
        for module in self.model.network.module.modules():
            if isinstance(module, RandomMask):
                module.reseed(MASK_SEED)


class ModelConformance(ABC):
    """What must hold of every row of a family.

    Hooks get the row, so that one class serves rows of several sizes and trainings.
    """

    @abstractmethod
    def rows(self) -> Sequence[str | ModelRow]:
        """Return the family's rows, or their names."""

    @abstractmethod
    def layer_shapes(self, row: ModelRow, protocol: str) -> Mapping[str, tuple[int, ...]]:
        """Return each tap's shape for one clip, in order of depth, from the system's definition."""

    @abstractmethod
    def reference(self, case: Case, frames: np.ndarray) -> Mapping[str, np.ndarray]:
        """Return every layer's activations by another implementation, given the weights in `case.model.network`.

        Normalise and lay out the uint8 frames (n_clips, n_frames, height, width, 3) by hand. Layers of all tap sets are
        wanted, further ones are compared too. Noise of random masks starts at `MASK_SEED`.
        """

    def study_changes(self, row: ModelRow) -> Mapping[str, object]:
        """Return what protocol `study` sets otherwise than `default`: fields of InputSpec and ProtocolSpec."""
        return {}

    def n_parameters(self, row: ModelRow) -> int | None:
        """Return the number of parameters, where one is published or follows from the definition."""
        return None

    def is_slow(self, row: ModelRow) -> bool:
        """Return whether running the row takes seconds."""
        return False

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Give each test its rows: `row` without a network, `case` and `default_case` with one.

        A `case` is a row in each protocol in which something else is computed, a `default_case` as it was trained.
        """
        rows = [find_row(row) for row in self.rows()]
        cases = [
            pytest.param((row, protocol), id=f"{row.name}-{protocol}", marks=[pytest.mark.slow] * self.is_slow(row))
            for row in rows
            for protocol in ("default", "study")
            if protocol == "default" or set(self.study_changes(row)) - {"frame_stride"}
        ]
        # Scope "class": tests are ordered by their case, and one network is in memory at a time.
        if "case" in metafunc.fixturenames:
            metafunc.parametrize("case", cases, indirect=True, scope="class")
        elif "default_case" in metafunc.fixturenames:
            cases = [case for case in cases if "default" in case.values[0]]
            metafunc.parametrize("default_case", cases, indirect=True, scope="class")
        elif "protocol" in metafunc.fixturenames:
            params = [
                pytest.param(row, protocol, marks=[pytest.mark.slow] * (self.is_slow(row) and protocol == "study"))
                for row in rows
                for protocol in ("default", "study")
            ]
            metafunc.parametrize(("row", "protocol"), params, ids=[f"{p.values[0].name}-{p.values[1]}" for p in params])
        elif "row" in metafunc.fixturenames:
            metafunc.parametrize("row", rows, ids=[row.name for row in rows])

    @pytest.fixture(scope="class")
    @classmethod
    def case(cls, request: pytest.FixtureRequest) -> Case:
        """Load a row in a protocol."""
        return load_case(*request.param)

    @pytest.fixture(scope="class")
    @classmethod
    def default_case(cls, request: pytest.FixtureRequest) -> Case:
        """Load a row as it was trained."""
        return load_case(*request.param)

    # Without a network.

    def test_layers_and_parameters_are_those_of_the_definition(self, row: ModelRow, protocol: str) -> None:
        """Names, order, shapes and numbers of features, for the full size too: nothing is computed."""
        expected = self.layer_shapes(row, protocol)
        with torch.device("meta"):
            network = build_network(row, protocol)
        n_parameters = sum(parameter.numel() for parameter in network.module.parameters())
        assert self.n_parameters(row) in (None, n_parameters)
        infos = trace_taps(network, row.taps, batch_shape(row.protocol(protocol).input))
        assert [info.name for info in infos] == list(row.taps) == list(expected)
        assert {info.name: info.shape for info in infos} == dict(expected)
        assert [info.n_features for info in infos] == [math.prod(shape) for shape in expected.values()]

    def test_study_protocol_differs_from_default_exactly_as_stated(self, row: ModelRow) -> None:
        """No more and no less than what is known of the study's scripts."""
        default, study = (settings(row.protocol(name)) for name in ("default", "study"))
        changed = {name: value for name, value in study.items() if value != default[name]}
        assert changed == dict(self.study_changes(row))
        assert bool(changed) == (row.identity("study") != row.identity("default"))

    def test_key_of_weights_differs_where_weights_differ(self, row: ModelRow, tmp_path: Path) -> None:
        """Seeds, files and untrained controls never share a key; the same question gives the same key."""
        if not has_weights(row):
            assert weights_key(row, seed=0) == weights_key(row, seed=1)
            return
        files = [tmp_path / f"{letter}.pth" for letter in "ab"]
        for number, file in enumerate(files):
            file.write_bytes(bytes([number]))
        asked: list[dict[str, Any]] = [{"random_weights": True, "seed": seed} for seed in (0, 1)]
        asked += [{"checkpoint": file} for file in files]
        asked += [{}] if row.weights.kind in ("torchvision", "timm", "transformers") else []
        keys = [weights_key(row, **options) for options in asked]
        assert all(a != b for i, a in enumerate(keys) for b in keys[:i])
        assert keys == [weights_key(row, **options) for options in asked]
        if self.study_changes(row):
            assert weights_key(row, protocol="study", checkpoint=files[0]) != keys[2]

    # With a network.

    def test_activations_equal_the_reference_at_every_layer(self, case: Case) -> None:
        """Same input, same weights: the same numbers as the reference implementation, called by hand."""
        frames = noise_frames(case.model.input, n_clips=1 if self.is_slow(case.row) else 2)
        expected = self.reference(case, frames)
        layers = {*case.row.taps, *(layer for tap in case.row.tap_sets for layer in case.row.layers(tap))}
        assert layers <= set(expected)
        check_close(case.run(frames, list(expected)), expected)

    def test_batch_of_one_equals_batch_of_eight(self, case: Case) -> None:
        """A clip's features do not depend on what else is in its batch."""
        frames = noise_frames(case.model.input, n_clips=8)
        together = case.run(frames)
        case.restart()
        for clip in range(2 if self.is_slow(case.row) else 8):
            alone = {name: x.numpy()[0] for name, x in case.model.activations(frames[clip : clip + 1]).items()}
            check_close(alone, {name: x[clip] for name, x in together.items()})

    def test_forward_pass_and_weights_are_unchanged_by_extraction(self, case: Case) -> None:
        """What the network gives at its end is bit for bit the same while it is tapped, and before and after that."""
        module, frames = case.model.network.module, noise_frames(case.model.input, n_clips=1)
        before = digest_state(module)
        plain = case.end_of(frames)
        with capture(module, [tap.name for tap in case.model.taps]) as seen:
            tapped = case.end_of(frames)
        assert len(seen) == len(case.model.taps)
        case.run(frames)  # ends after the last tap
        again = case.end_of(frames)
        assert len(plain) > 0
        for outputs in (tapped, again):
            assert all(torch.equal(a, b) for a, b in zip(plain, outputs, strict=True))
        assert digest_state(module) == before

    def test_activations_are_float32_and_stay_as_they_are(self, default_case: Case) -> None:
        """As listed, finite, without gradients; a later pass does not change what an earlier one gave."""
        model = default_case.model
        frames = noise_frames(model.input, n_clips=2)
        first = model.activations(frames[:1])
        copies = {name: values.clone() for name, values in first.items()}
        assert {name: tuple(x.shape) for name, x in first.items()} == {t.name: (1, *t.shape) for t in model.taps}
        assert tap_infos(model.row) == model.taps
        assert all(x.dtype == torch.float32 and not x.requires_grad for x in first.values())
        assert all(bool(torch.isfinite(x).all()) for x in first.values())
        model.activations(frames[1:])
        assert all(torch.equal(first[name], copies[name]) for name in first)

    def test_hooks_are_gone_after_success_and_after_an_exception(
        self, default_case: Case, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A forward pass that breaks off leaves a network that works as before."""
        model = default_case.model
        module, frames = model.network.module, noise_frames(model.input, n_clips=1)
        before = default_case.run(frames)
        assert count_hooks(module) == 0

        def break_off(*_: object) -> None:
            raise RuntimeError("in the middle of the forward pass")

        with monkeypatch.context() as patch:
            patch.setattr(module.get_submodule(model.row.taps[-1]), "forward", break_off)
            with pytest.raises(RuntimeError, match="in the middle of the forward pass"):
                model.activations(frames)
        assert count_hooks(module) == 0
        after = default_case.run(frames)
        assert all(np.array_equal(after[name], before[name]) for name in before)

    def test_weights_written_and_read_give_the_same_activations(self, default_case: Case, tmp_path: Path) -> None:
        """A state dict in the network's own names is a checkpoint; one changed weight makes another digest."""
        row, module = default_case.row, default_case.model.network.module
        if not has_weights(row):
            assert not list(module.parameters())
            return
        state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        torch.save(state, tmp_path / "same.pth")
        name, _ = next(module.named_parameters())
        state[name].view(-1)[0] += 1e-3
        torch.save(state, tmp_path / "changed.pth")
        same, changed = (load_model(row, checkpoint=tmp_path / f"{name}.pth") for name in ("same", "changed"))
        assert same.weights_digest == digest_state(module) != changed.weights_digest
        frames = noise_frames(same.input, n_clips=1)
        check_close(Case(row, "default", same).run(frames), default_case.run(frames))


class TokenConformance(ModelConformance):
    """What must hold beyond that of transformers over patches: the place of a token is the place of its patch."""

    # Frames, height and width of a patch, and tokens in front of the patches' own.
    patch: tuple[int, int, int]
    n_class_tokens = 0

    @abstractmethod
    def embedding(self, row: ModelRow) -> str:
        """Return the module that gives tokens with their positions, before the first block."""

    def token_of_patch(self, case: Case, index: int) -> int | None:
        """Return which token is patch number `index` (time slowest, then rows); None where it is masked."""
        return self.n_class_tokens + index

    def test_token_i_is_patch_i(self, case: Case) -> None:
        """Change one patch of the input: that token changes at the embedding, and no other. So there is no mask."""
        frames = noise_frames(case.model.input, n_clips=1)
        shown, layer = case.model.input, self.embedding(case.row)
        depth, height, width = self.patch
        grid = (shown.n_frames // depth, shown.size[0] // height, shown.size[1] // width)
        before = case.run(frames, [layer])[layer][0]
        n_patches = math.prod(grid)
        for index in np.unique(np.linspace(0, n_patches - 1, N_PATCHES_TRIED).astype(int)):
            t, h, w = (int(i) for i in np.unravel_index(index, grid))
            changed = frames.copy()
            patch = changed[0, t * depth :, h * height :, w * width :][:depth, :height, :width]
            np.invert(patch, out=patch)
            after = case.run(changed, [layer])[layer][0]
            token = self.token_of_patch(case, int(index))
            found = np.flatnonzero((before != after).any(axis=1)).tolist()
            assert found == ([] if token is None else [token])

    def test_taps_know_the_places_of_their_tokens_where_none_is_missing(self, case: Case) -> None:
        """Grid and class tokens come with each tap; a mask takes the grid away."""
        shown = case.model.input
        grid = tuple(n // p for n, p in zip((shown.n_frames, *shown.size), self.patch, strict=True))
        spec = case.row.protocol(case.protocol)
        masked = bool(spec.random_mask or spec.masked_tokens)
        for tap in case.model.taps:
            assert (tap.channel_axis, tap.n_class_tokens) == (1, self.n_class_tokens)
            assert tap.grid == (None if masked else grid)
            assert masked == (tap.shape[0] != self.n_class_tokens + math.prod(grid))


def load_case(row: ModelRow, protocol: str) -> Case:
    """Load a row in a protocol with random weights, where it has any."""
    return Case(row, protocol, load_model(row, protocol=protocol, random_weights=has_weights(row)))


def has_weights(row: ModelRow) -> bool:
    """Return whether the row's network has weights to fill."""
    return row.weights.kind != "none"


def settings(spec: ProtocolSpec) -> dict[str, object]:
    """Return all that a protocol sets, in one flat dict, without notes."""
    flat = {f.name: getattr(spec.input, f.name) for f in fields(spec.input)}
    return flat | {"random_mask": spec.random_mask, "masked_tokens": spec.masked_tokens}


def check_close(got: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    """Assert that every layer is within `TOLERANCE` of what is expected, relative to its largest value."""
    errors = {name: relative_error(got[name], values) for name, values in expected.items()}
    assert max(errors.values()) < TOLERANCE, errors


def find_tensors(output: object) -> list[Tensor]:
    """Return copies of the tensors that a network gives: one, several, or those of a library's record."""
    if isinstance(output, Tensor):
        return [output.clone()]
    values = output.values() if isinstance(output, Mapping) else output if isinstance(output, Sequence) else ()
    return [tensor for value in values for tensor in find_tensors(value)]


def count_hooks(module: nn.Module) -> int:
    """Return how many hooks there are in all modules."""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())
