"""Turn stored activations and files of RDMs into the RDMs of models, stimulus by stimulus."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from brainsim.core.errors import InvalidValueError

if TYPE_CHECKING:
    from brainsim.features.bands import LayerSource
    from brainsim.store import Store


@dataclass(frozen=True)
class ModelRdms:
    """RDMs of all layers of all models.

    Parameters
    ----------
    layers : list of dict
        Model, layer, index and family of each, as result nodes list them.
    rdms : ndarray of float64, (n_layers, n_pairs)
    n_features : list of int or None
        Features of each stored layer.
    digests : list
        What made each.
    sources : list of str
        Node paths.
    """

    layers: list[dict[str, Any]]
    rdms: np.ndarray
    digests: list[Any]
    sources: list[str]

    @property
    def columns(self) -> dict[str, list[int]]:
        """Layers of each model."""
        found: dict[str, list[int]] = {}
        for row, layer in enumerate(self.layers):
            found.setdefault(layer["model"], []).append(row)
        return found

    @property
    def families(self) -> dict[str, list[str]]:
        """Models of each family."""
        found: dict[str, list[str]] = {}
        for layer in self.layers:
            members = found.setdefault(layer["family"], [])
            if layer["model"] not in members:
                members.append(layer["model"])
        return found

    @property
    def joint_sets(self) -> list[list[str]]:
        """All models together, and without those of one family in turn."""
        families = self.families
        return [
            [model for family, members in families.items() if family != left_out for model in members]
            for left_out in (None, *families)
        ]


def model_rdms_of(
    store: Store | None,
    *,
    models: Sequence[str],
    files: Mapping[str, Sequence[str]],
    conditions: Sequence[str],
    distance: str,
    n_stimuli: int,
    families: Mapping[str, Sequence[str]] | None = None,
    device: str = "cpu",
) -> ModelRdms:
    """Return the RDMs of stored models, where a store is given, then those of files; with families, of theirs alone.

    Raises
    ------
    UnknownNameError, InvalidValueError
        No model at all; rows or RDMs that are not those of the brains' stimuli.
    """
    from brainsim.commands.rsa_files import read_rdms
    from brainsim.features.bands import group_models

    layers: list[dict[str, Any]] = []
    rows: list[np.ndarray] = []
    digests: list[Any] = []
    sources: list[str] = []
    if store is not None:
        nodes = store.nodes("activations", type="activations")
        for layer in _stored_layers(nodes, models, conditions):
            layers.append({"model": layer.model, "layer": layer.layer, "index": layer.index, "family": layer.family})
            rows.append(_layer_rdm(store, layer, distance, n_stimuli, device))
            digests.append(list(layer.digests))
            sources += list(layer.nodes.values())
    for model, paths in files.items():
        if model in {layer["model"] for layer in layers}:
            raise InvalidValueError(f"model {model} is in the store and in --model-rdms; names must differ.")
        for index, rdm in enumerate(read_rdms(paths, name=model)):
            layers.append({"model": model, "layer": f"rdm-{index + 1}", "index": index, "family": "files"})
            rows.append(rdm)
            digests.append(digest_rdms(rdm))
    wrong = [layer["model"] for layer, rdm in zip(layers, rows, strict=True) if len(rdm) != _n_pairs(n_stimuli)]
    if wrong:
        raise InvalidValueError(f"RDMs of {wrong[0]} are not of {n_stimuli} stimuli, as those of the brains are.")
    if families is not None:
        family_of = group_models([layer["model"] for layer in layers], families)
        chosen = [row for row, layer in enumerate(layers) if layer["model"] in family_of]
        layers = [{**layers[row], "family": family_of[layers[row]["model"]]} for row in chosen]
        rows, digests = [rows[row] for row in chosen], [digests[row] for row in chosen]
    return ModelRdms(layers, np.stack(rows), digests, sources)


def digest_rdms(rdms: np.ndarray) -> str:
    """Return the SHA-256 of RDMs by their values."""
    return hashlib.sha256(rdms.astype("<f8").tobytes()).hexdigest()


def _n_pairs(n: int) -> int:
    return n * (n - 1) // 2


def _stored_layers(nodes: Sequence[Any], models: Sequence[str], conditions: Sequence[str]) -> list[LayerSource]:
    from brainsim.features.bands import select_layers

    names = sorted({node.attributes["stimulus"] for node in nodes})
    if not conditions and len(names) > 1:
        raise InvalidValueError(
            f"the store holds activations of {len(names)} stimuli ({', '.join(names[:5])}); which are the conditions?",
            hint=f"--conditions {names[0]}",
        )
    return select_layers(nodes, models=models, stimuli=list(conditions) or names)


def _layer_rdm(store: Store, layer: LayerSource, distance: str, n_stimuli: int, device: str) -> np.ndarray:
    from brainsim.commands.kernels import block_width
    from brainsim.rsa.rdm import gram_of_blocks, square_rdm, upper

    n_rows = sum(store.info(node).arrays["values"][0][0] for node in layer.nodes.values())
    if n_rows != n_stimuli:
        raise InvalidValueError(
            f"{layer.name} has {n_rows} rows for {', '.join(layer.nodes)}; the brains' RDMs have {n_stimuli} stimuli.",
            hint="--conditions NAME,NAME picks other stored stimuli",
        )

    width = block_width(2 * n_rows)  # they are float64
    blocks = (
        np.concatenate(
            [store.read(node, "values", columns=slice(a, a + width)) for node in layer.nodes.values()]
        ).astype(np.float64)
        for a in range(0, layer.n_features, width)
    )
    gram, sums = gram_of_blocks(blocks, n_rows, device=device)
    return upper(square_rdm(gram, sums, layer.n_features, distance=distance, name=layer.name, rows="stimuli"))
