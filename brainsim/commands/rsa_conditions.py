"""Turn RDMs of brains from files, and models from the store or files, into similarities, stimulus by stimulus."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brainsim.commands.encoding_plan import result_is_done
from brainsim.commands.rsa import RsaSummary
from brainsim.commands.rsa_condition_models import ModelRdms, digest_rdms, model_rdms_of
from brainsim.commands.rsa_options import REPEAT_DISTANCES, VERSION, RsaRequest, RsaSettings
from brainsim.core.errors import InvalidValueError, UnknownNameError

if TYPE_CHECKING:
    from brainsim.store import Store


@dataclass(frozen=True)
class ConditionData:
    """What is compared: models and brains, of the same stimuli.

    Parameters
    ----------
    found : ModelRdms
        Models.
    brains : dict of str to ndarray of float64, (n_subjects, n_pairs)
        Stream -> RDM of each subject.
    n_targets : dict of (str, str) to int
        Subject and stream -> voxels; empty where RDMs came from files.
    notes : tuple of str
        What must be known.
    sources : dict of str to list of str
        Subject -> nodes.
    """

    found: ModelRdms
    brains: Mapping[str, np.ndarray]
    n_targets: Mapping[tuple[str, str], int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    sources: Mapping[str, Sequence[str]] = field(default_factory=dict)


def compare_conditions(
    request: RsaRequest,
    settings: RsaSettings,
    *,
    rdms: Mapping[str, Sequence[str]],
    model_rdms: Mapping[str, Sequence[str]],
    conditions: Sequence[str],
    with_stored: bool,
    squared: bool,
    raw_ceiling: bool,
) -> RsaSummary:
    """Do what `brainsim rsa --rdms` does; see `brainsim.commands.rsa.rsa`."""
    from brainsim.commands.encoding_options import resolve_device
    from brainsim.commands.rsa_files import read_rdms
    from brainsim.core.checks import check_count
    from brainsim.rsa.rdm import n_rows_of

    started = time.monotonic()
    check_count("--n-bootstraps", request.n_bootstraps, at_least=0)
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
    if with_stored and _store_of(request) is None:
        raise UnknownNameError(
            f"there is no store at {request.store}, whose models would be compared.",
            hint="--model-rdms MODEL=FILE alone, or brainsim extract",
        )
    found = model_rdms_of(
        _store_of(request) if with_stored else None,
        models=request.models,
        files=model_rdms,
        conditions=conditions,
        distance=settings.distance,
        n_stimuli=n_stimuli,
        families=request.families,
        device=resolve_device(request.device),
    )
    subjects = [f"subject-{i + 1:02d}" for i in range(n_subjects)]
    options = condition_options(request, settings, found.layers, n_stimuli)
    options |= {"squared": squared, "raw_ceiling": raw_ceiling}
    key = {
        "kind": "rsa",
        "version": VERSION,
        "options": options,
        "features": found.digests,
        "data": {stream: digest_rdms(rdm) for stream, rdm in brains.items()},
    }
    return ensure_conditions(
        request,
        settings,
        key=key,
        layers=found.layers,
        subjects=subjects,
        make=lambda: ConditionData(found, brains),
        started=started,
    )


def _store_of(request: RsaRequest) -> Store | None:
    """Open the store where there is one."""
    from brainsim.store import Store

    return Store(request.store, mode="r") if (Path(request.store) / "zarr.json").exists() else None


def condition_options(
    request: RsaRequest, settings: RsaSettings, layers: Sequence[Mapping[str, Any]], n_stimuli: int
) -> dict[str, Any]:
    """Return what can change a number of an RSA of stimuli."""
    families: dict[str, list[str]] = {}
    for layer in layers:
        families.setdefault(layer["family"], []).append(layer["model"])
    return {
        "dataset": request.dataset,
        "protocol": "default",
        "distance": settings.distance,
        "compare": settings.compare,
        "combine": settings.combine,
        "method": settings.method,
        "models": list(dict.fromkeys(layer["model"] for layer in layers)),
        "families": {family: list(dict.fromkeys(models)) for family, models in families.items()},
        "subsets": request.subset_spec,
        "squared": False,
        "raw_ceiling": False,
        "n_bootstraps": request.n_bootstraps,
        "n_stimuli": n_stimuli,
        "seed": request.seed,
    }


def ensure_conditions(
    request: RsaRequest,
    settings: RsaSettings,
    *,
    key: Mapping[str, Any],
    layers: Sequence[Mapping[str, Any]],
    subjects: Sequence[str],
    make: Callable[[], ConditionData],
    started: float,
) -> RsaSummary:
    """Make the nodes of an RSA of stimuli where they are not there, and return what they hold.

    Parameters
    ----------
    key : mapping
        Everything that makes the results; its options are stored with them.
    layers : sequence of dict
        Layers of all models, as result nodes list them.
    make : callable
        Makes the RDMs; called only where results are missing.
    started : float
        When the command began, by the monotonic clock.
    """
    from brainsim.store import Store

    options = key["options"]
    path = f"rsa/{request.name}/{request.dataset}"
    there = _store_of(request)
    n_written = n_reused = 0
    tables: Mapping[str, Any] = {}
    if there is not None and result_is_done(there, f"{path}/group", key, overwrite=request.overwrite):
        tables, n_reused = there.info(f"{path}/group").attributes, len(subjects) + 1
    elif not request.dry_run:
        tables = _score_and_write(Store(request.store, mode="a"), request, path, key, make(), settings, subjects)
        n_written = len(subjects) + 1
    for warning in tables.get("warnings", ()):
        request.progress.warn(warning)
    return RsaSummary(
        name=request.name,
        dataset=request.dataset,
        store=str(request.store),
        protocol=options["protocol"],
        subjects=tuple(subjects),
        n_models=len(options["models"]),
        n_layers=len(layers),
        distance=settings.distance,
        compare=settings.compare,
        rows=tuple(tables.get("rows", ())),
        unique=tuple(row for row in tables.get("unique", ()) if row["quantity"] == "unique"),
        ceilings=tuple(tables.get("ceilings", ())),
        audit=(),
        n_nodes_written=n_written,
        n_nodes_reused=n_reused,
        warnings=tuple(tables.get("warnings", ())),
        seconds=round(time.monotonic() - started, 3),
    )


def _score_and_write(
    store: Store,
    request: RsaRequest,
    path: str,
    key: Mapping[str, Any],
    data: ConditionData,
    settings: RsaSettings,
    subjects: Sequence[str],
) -> Mapping[str, Any]:
    from brainsim.commands.rsa_caveats import lone_caveats
    from brainsim.commands.rsa_condition_scores import score_conditions
    from brainsim.commands.rsa_pictures import stimulus_pictures, write_pictures

    found, options = data.found, key["options"]
    scores = score_conditions(found, data.brains, settings, options, progress=request.progress)
    warnings = [*data.notes, *scores.notes, *lone_caveats(scores.tables)]
    told = {"comparison": settings.compare, "distance": settings.distance, "options": options, "warnings": warnings}
    for index, subject in enumerate(subjects):
        arrays = {"layer_score": scores.layer[:, :, index], "model_score": scores.model[:, :, index]}
        if scores.subset_r2 is not None and scores.joint is not None:
            arrays["subset_r2_folds"] = scores.subset_r2[:, :, index]
            arrays["joint_score_folds"] = scores.joint[:, :, index]
        store.write(
            f"{path}/{subject}",
            type="rsa",
            key={**key, "subject": subject},
            arrays={n: a.astype(np.float64 if n.endswith("_score") else np.float32) for n, a in arrays.items()},
            attributes={
                **told,
                "layers": found.layers,
                "models": [
                    {"model": m, "family": found.layers[rows[0]]["family"]} for m, rows in found.columns.items()
                ],
                "families": found.families,
                "streams": list(data.brains),
                "joint_sets": found.joint_sets if scores.joint is not None else [],
                "n_targets": {stream: n for (who, stream), n in data.n_targets.items() if who == subject},
                "sources": [*data.sources.get(subject, ()), *found.sources],
            },
            overwrite=request.overwrite,
        )
    pictures = stimulus_pictures(
        found.rdms, data.brains, found.layers, scores.layer, settings.compare, n_stimuli=int(options["n_stimuli"])
    )
    sources = [f"{path}/{subject}" for subject in subjects]
    write_pictures(store, request.name, request.dataset, key, pictures, sources=sources)
    store.write(
        f"{path}/group",
        type="rsa-group",
        key=key,
        arrays={},
        attributes={
            **told,
            **scores.tables,
            "subjects": list(subjects),
            "dataset": request.dataset,
            "sources": sources,
        },
        overwrite=request.overwrite,
    )
    return store.info(f"{path}/group").attributes
