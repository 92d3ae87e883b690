"""Bands from stored layers, and the response they are convolved with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from brainsim.core.errors import InvalidValueError, UnknownNameError
from brainsim.features.bands import LayerSource, make_bands, select_layers
from brainsim.features.hrf import canonical_hrf, hrf_matrix


@dataclass(frozen=True)
class Node:
    path: str
    digest: str
    attributes: dict[str, Any]
    arrays: dict[str, Any] = field(default_factory=lambda: {"values": ((10, 4), "float32")})


def make_nodes(models: dict[str, str], *, layers: int = 12, stimuli: tuple[str, ...] = ("m1", "m2")) -> list[Node]:
    return [
        Node(
            f"activations/{model}@00000001/block.{index}/{stimulus}",
            f"{model}{index}{stimulus}",
            {
                "model": model,
                "layer": f"block.{index}",
                "layer_index": index,
                "family": family,
                "stimulus": stimulus,
            },
        )
        for model, family in models.items()
        for index in sorted(range(layers), key=str)
        for stimulus in stimuli
    ]


MODELS = {"mae-base": "image-mae", "videomae-base": "video-mae", "mae-large": "image-mae"}


def select(*globs: str, stimuli: tuple[str, ...] = ("m2", "m1")) -> list[LayerSource]:
    return select_layers(make_nodes(MODELS), models=globs or ("*",), stimuli=stimuli)


def test_globs_pick_models_or_feature_sets_with_layers_in_network_order() -> None:
    layers = select("mae-*")
    assert [la.model for la in layers[::12]] == ["mae-base", "mae-large"]
    assert [la.index for la in layers[:12]] == list(range(12))
    assert layers[2].digests == ("mae-base2m2", "mae-base2m1")
    assert len(select("videomae-base@00000001", "*")) == 36


def test_names_that_are_not_stored_come_with_near_misses() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'videomae-base'"):
        select("videomae-bas")
    with pytest.raises(UnknownNameError, match=r"1 of 2 stimuli \(m9\)"):
        select(stimuli=("m1", "m9"))
    with pytest.raises(UnknownNameError, match="no activations"):
        select_layers([], stimuli=("m1",))


@pytest.mark.parametrize(("level", "n"), [("layer", 36), ("system", 3), ("family", 2)])
def test_bands_by_level_keep_families_together(level: str, n: int) -> None:
    bands = make_bands(select(), level=level)
    assert len(bands) == n
    families = [band.family for band in bands]
    assert families == sorted(families, key=families.index)
    assert sum(len(band.layers) for band in bands) == 36


def test_families_of_the_user_leave_other_models_out() -> None:
    bands = make_bands(select(), level="family", families={"big": ["*-large"], "base": ["*-base"]})
    assert [(band.name, len(band.layers)) for band in bands] == [("big", 12), ("base", 24)]
    with pytest.raises(InvalidValueError, match="two families"):
        make_bands(select(), families={"a": ["mae-*"], "b": ["*-base"]})
    with pytest.raises(UnknownNameError, match="matches no stored model"):
        make_bands(select(), families={"a": ["resnet"]})


def test_a_misspelt_member_of_a_family_is_named_beside_others_that_match() -> None:
    families = {"still": ["mae-base", "mea-large"], "moving": ["videomae-*", "mvd-*"]}
    told = "family 'still': 'mea-large' matches no stored model of this analysis; did you mean 'mae-large'"
    with pytest.raises(UnknownNameError, match=told) as error:
        make_bands(select(), families=families)
    assert error.value.hint is not None
    assert [note.split(";")[0] for note in error.value.__notes__] == [
        "family 'moving': 'mvd-*' matches no stored model of this analysis"
    ]
    with pytest.raises(InvalidValueError, match="family 'none' is empty"):
        make_bands(select(), families={"none": []})


def test_hrf_is_causal_sums_to_one_and_peaks_at_five_seconds() -> None:
    t = np.arange(0, 40, 0.1)
    assert t[canonical_hrf(t).argmax()] == pytest.approx(5.0, abs=0.11)
    assert not canonical_hrf(np.array([-1.0, 33.0])).any()
    matrix = hrf_matrix(30, 2.0)
    assert not np.triu(matrix, 1).any()
    np.testing.assert_allclose(matrix[20:].sum(axis=1), 1, atol=1e-6)
    # The same as convolving on a fine grid and reading the middle of each TR.
    x = np.random.default_rng(0).standard_normal(30)
    h = canonical_hrf((np.arange(3200) + 0.5) * 0.01)
    fine = np.convolve(np.repeat(x, 200), h)[99 : 99 + 200 * 30 : 200] / h.sum()
    np.testing.assert_allclose(matrix @ x, fine, atol=0.01)
