"""Turn RDMs of brains from files, and models from the store or files, into similarities, stimulus by stimulus."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brainsim.commands.encoding_plan import result_is_done
from brainsim.commands.rsa import RsaSummary
from brainsim.commands.rsa_options import REPEAT_DISTANCES, RsaSettings
from brainsim.core.errors import InvalidValueError, UnknownNameError
from brainsim.core.progress import Progress
from brainsim.core.provenance import digest

if TYPE_CHECKING:
    from brainsim.features.bands import LayerSource
    from brainsim.store import Store

# Stimuli are held out in so many parts, every fifth one together: neighbours are often of one kind.
N_FOLDS = 5

# Fewer stimuli than this in a part have too few pairs to be scored.
MIN_HELD_OUT = 4


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


def compare_conditions(
    name: str,
    dataset: str,
    store: Path | str,
    *,
    models: Sequence[str],
    rdms: Mapping[str, Sequence[str]],
    model_rdms: Mapping[str, Sequence[str]],
    conditions: Sequence[str],
    settings: RsaSettings,
    protocol: str,
    squared: bool,
    raw_ceiling: bool,
    n_bootstraps: int,
    seed: int,
    dry_run: bool,
    overwrite: bool,
    progress: Progress,
) -> RsaSummary:
    """Do what `brainsim rsa --rdms` does; see `brainsim.commands.rsa.rsa`."""
    from brainsim.commands.rsa_files import read_rdms
    from brainsim.core.checks import check_count
    from brainsim.rsa.rdm import n_rows_of
    from brainsim.store import Store

    started = time.monotonic()
    check_count("--n-bootstraps", n_bootstraps, at_least=0)
    if protocol != "default":
        raise InvalidValueError(f"--protocol is {protocol}; the study has movies only: with --rdms it is default.")
    if settings.distance in REPEAT_DISTANCES:
        raise InvalidValueError(f"--distance is {settings.distance}; models have no repeats, and brains come as RDMs.")
    brains = {stream: read_rdms(files, name=stream) for stream, files in rdms.items()}
    sizes = {stream: rdm.shape for stream, rdm in brains.items()}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{s}: {n} RDMs of {n_rows_of(p)} stimuli" for s, (n, p) in sizes.items())
        raise InvalidValueError(
            f"RDMs of brains differ in number or size ({told}); subjects and stimuli must be the same."
        )
    n_subjects, n_pairs = next(iter(sizes.values()))
    n_stimuli = n_rows_of(n_pairs)
    there = Store(store, mode="r") if (Path(store) / "zarr.json").exists() else None
    found = model_rdms_of(
        there, models=models, files=model_rdms, conditions=conditions, distance=settings.distance, n_stimuli=n_stimuli
    )
    subjects = [f"subject-{i + 1:02d}" for i in range(n_subjects)]
    options = {
        "dataset": dataset,
        "protocol": protocol,
        "distance": settings.distance,
        "compare": settings.compare,
        "combine": settings.combine,
        "models": list(found.columns),
        "squared": squared,
        "raw_ceiling": raw_ceiling,
        "n_bootstraps": n_bootstraps,
        "n_stimuli": n_stimuli,
        "seed": seed,
    }
    key = {
        "kind": "rsa",
        "options": options,
        "features": found.digests,
        "data": {stream: digest(rdm.tolist()) for stream, rdm in brains.items()},
    }
    path = f"rsa/{name}/{dataset}"
    n_written = n_reused = 0
    tables: Mapping[str, Any] = {}
    if there is not None and result_is_done(there, f"{path}/group", key, overwrite=overwrite):
        tables, n_reused = there.info(f"{path}/group").attributes, n_subjects + 1
    elif not dry_run:
        opened = Store(store, mode="a")
        tables = _score_and_write(
            opened, path, key, found, brains, settings, subjects, options, overwrite=overwrite, progress=progress
        )
        n_written = n_subjects + 1
    for warning in tables.get("warnings", ()):
        progress.warn(warning)
    return RsaSummary(
        name=name,
        dataset=dataset,
        store=str(store),
        protocol=protocol,
        subjects=tuple(subjects),
        n_models=len(found.columns),
        n_layers=len(found.layers),
        distance=settings.distance,
        compare=settings.compare,
        rows=tuple(tables.get("rows", ())),
        unique=(),
        ceilings=tuple(tables.get("ceilings", ())),
        audit=(),
        n_nodes_written=n_written,
        n_nodes_reused=n_reused,
        warnings=tuple(tables.get("warnings", ())),
        seconds=round(time.monotonic() - started, 3),
    )


def model_rdms_of(
    store: Store | None,
    *,
    models: Sequence[str],
    files: Mapping[str, Sequence[str]],
    conditions: Sequence[str],
    distance: str,
    n_stimuli: int,
) -> ModelRdms:
    """Return the RDMs of stored models, then those of files.

    Raises
    ------
    UnknownNameError, InvalidValueError
        No model at all; rows or RDMs that are not those of the brains' stimuli.
    """
    from brainsim.commands.rsa_files import read_rdms

    layers: list[dict[str, Any]] = []
    rows: list[np.ndarray] = []
    digests: list[Any] = []
    sources: list[str] = []
    nodes = store.nodes("activations", type="activations") if store is not None else []
    if nodes or not files:
        if store is None:
            raise UnknownNameError(
                "there is no store, and no file of model RDMs.", hint="--model-rdms MODEL=FILE, or brainsim extract"
            )
        for layer in _stored_layers(nodes, models, conditions):
            layers.append({"model": layer.model, "layer": layer.layer, "index": layer.index, "family": layer.family})
            rows.append(_layer_rdm(store, layer, distance, n_stimuli))
            digests.append(list(layer.digests))
            sources += list(layer.nodes.values())
    for model, paths in files.items():
        if model in {layer["model"] for layer in layers}:
            raise InvalidValueError(f"model {model} is in the store and in --model-rdms; names must differ.")
        for index, rdm in enumerate(read_rdms(paths, name=model)):
            layers.append({"model": model, "layer": f"rdm-{index + 1}", "index": index, "family": "files"})
            rows.append(rdm)
            digests.append(digest(rdm.tolist()))
    wrong = [layer["model"] for layer, rdm in zip(layers, rows, strict=True) if len(rdm) != _n_pairs(n_stimuli)]
    if wrong:
        raise InvalidValueError(f"RDMs of {wrong[0]} are not of {n_stimuli} stimuli, as those of the brains are.")
    return ModelRdms(layers, np.stack(rows), digests, sources)


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


def _layer_rdm(store: Store, layer: LayerSource, distance: str, n_stimuli: int) -> np.ndarray:
    from brainsim.commands.rsa_rdms import BLOCK_FEATURES
    from brainsim.rsa.rdm import gram_of_blocks, square_rdm, upper

    n_rows = sum(store.info(node).arrays["values"][0][0] for node in layer.nodes.values())
    if n_rows != n_stimuli:
        raise InvalidValueError(
            f"{layer.name} has {n_rows} rows for {', '.join(layer.nodes)}; the brains' RDMs have {n_stimuli} stimuli.",
            hint="--conditions NAME,NAME picks other stored stimuli",
        )

    blocks = (
        np.concatenate(
            [store.read(node, "values", columns=slice(a, a + BLOCK_FEATURES)) for node in layer.nodes.values()]
        ).astype(np.float64)
        for a in range(0, layer.n_features, BLOCK_FEATURES)
    )
    gram, sums = gram_of_blocks(blocks, n_rows)
    return upper(square_rdm(gram, sums, layer.n_features, distance=distance, name=layer.name, rows="stimuli"))


def _score_and_write(
    store: Store,
    path: str,
    key: Mapping[str, Any],
    found: ModelRdms,
    brains: Mapping[str, np.ndarray],
    settings: RsaSettings,
    subjects: Sequence[str],
    options: Mapping[str, Any],
    *,
    overwrite: bool,
    progress: Progress,
) -> Mapping[str, Any]:
    from brainsim.commands.rsa_condition_scores import score_conditions
    from brainsim.commands.rsa_pictures import stimulus_pictures, write_pictures

    scores = score_conditions(found, brains, settings, options, progress=progress)
    models = [{"model": m, "family": found.layers[rows[0]]["family"]} for m, rows in found.columns.items()]
    told = {"comparison": settings.compare, "distance": settings.distance, "options": options, "sources": found.sources}
    for index, subject in enumerate(subjects):
        store.write(
            f"{path}/{subject}",
            type="rsa",
            key={**key, "subject": subject},
            arrays={
                "layer_score": scores.layer[:, :, index].astype(np.float64),
                "model_score": scores.model[:, :, index].astype(np.float64),
            },
            attributes={
                **told,
                "layers": found.layers,
                "models": models,
                "streams": list(brains),
                "warnings": scores.notes,
                "n_targets": {},
            },
            overwrite=overwrite,
        )
    pictures = stimulus_pictures(
        found.rdms, brains, found.layers, scores.layer, settings.compare, n_stimuli=int(options["n_stimuli"])
    )
    _, name, dataset = path.split("/")
    write_pictures(store, name, dataset, key, pictures, sources=[f"{path}/{subject}" for subject in subjects])
    store.write(
        f"{path}/group",
        type="rsa-group",
        key=key,
        arrays={},
        attributes={
            **told,
            **scores.tables,
            "subjects": list(subjects),
            "dataset": options["dataset"],
            "sources": [f"{path}/{subject}" for subject in subjects],
            "warnings": scores.notes,
        },
        overwrite=overwrite,
    )
    return store.info(f"{path}/group").attributes
