"""Turn stored responses to single stimuli (betas) and activations into similarities, stimulus by stimulus."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brainsim.commands.encoding_data import SubjectGroup, find_subjects, group_by_timing
from brainsim.commands.encoding_plan import describe_layers
from brainsim.commands.rsa import RsaSummary
from brainsim.commands.rsa_condition_models import ModelRdms
from brainsim.commands.rsa_conditions import ConditionData, condition_options, ensure_conditions
from brainsim.commands.rsa_options import REPEAT_DISTANCES, VERSION, RsaRequest, RsaSettings
from brainsim.core.errors import InvalidValueError
from brainsim.core.progress import Progress

if TYPE_CHECKING:
    from brainsim.features.bands import LayerSource
    from brainsim.store import Store


def has_betas(store: Path | str, dataset: str, subjects: Sequence[str]) -> bool:
    """Tell whether rows of a dataset's subjects are stimuli.

    Raises
    ------
    InvalidValueError
        Some are, and some are TRs.
    """
    from brainsim.commands.encoding_plan import open_for_results

    told = {s.name: s.has_betas for s in find_subjects(open_for_results(store, dry_run=True), dataset, subjects)}
    if len(set(told.values())) > 1:
        some = {kind: next(name for name, is_kind in told.items() if is_kind == kind) for kind in (True, False)}
        raise InvalidValueError(
            f"rows of {some[True]} are stimuli (betas), and those of {some[False]} are TRs; one analysis has one kind.",
            hint=f"--subjects {some[True]}",
        )
    return any(told.values())


def compare_betas(request: RsaRequest, settings: RsaSettings) -> RsaSummary:
    """Do what `brainsim rsa` does with betas; see `brainsim.commands.rsa.rsa`."""
    from brainsim.commands.encoding_options import resolve_device
    from brainsim.commands.encoding_plan import open_for_results
    from brainsim.commands.rsa_rdms import first_showings
    from brainsim.core.checks import check_count
    from brainsim.features.bands import regroup, select_layers

    started = time.monotonic()
    check_count("--n-bootstraps", request.n_bootstraps, at_least=0)
    opened = open_for_results(request.store, dry_run=request.dry_run)
    groups = group_by_timing(find_subjects(opened, request.dataset, request.subjects))
    if len(groups) > 1:
        first, second = (group.subjects[0].name for group in groups[:2])
        raise InvalidValueError(
            f"{first} and {second} of {request.dataset} saw different stimuli, or in different numbers; all must have "
            "seen the same.",
            hint=f"--subjects {','.join(s.name for s in groups[0].subjects)}",
        )
    (group,) = groups
    shown, repeats = first_showings(group, at_least=2 if settings.distance in REPEAT_DISTANCES else 1)
    chosen = select_layers(
        opened.nodes("activations", type="activations"), models=request.models, stimuli=shown.stimuli
    )
    grouped = regroup(chosen, request.families)
    layers = [
        {**row, "family": family}
        for (family, _), row in zip(grouped, describe_layers([layer for _, layer in grouped]), strict=True)
    ]
    names = [subject.name for subject in group.subjects]
    options = condition_options(request, settings, layers, shown.layout.n_rows)
    digests: list[Any] = [list(layer.digests) for _, layer in grouped]
    key = {
        "kind": "rsa",
        "version": VERSION,
        "options": options,
        "features": digests,
        "data": {subject.name: subject.digests for subject in group.subjects},
    }

    def make() -> ConditionData:
        where = resolve_device(request.device)
        rdms = _model_rdms(
            opened, [layer for _, layer in grouped], shown, settings, device=where, progress=request.progress
        )
        sources = [node for _, layer in grouped for node in layer.nodes.values()]
        found = ModelRdms(layers, rdms, digests, sources)
        brains, n_targets, notes = _brain_rdms(opened, group, repeats, settings, request.progress)
        return ConditionData(
            found, brains, n_targets, tuple(notes), {subject.name: subject.sources for subject in group.subjects}
        )

    return ensure_conditions(request, settings, key=key, layers=layers, subjects=names, make=make, started=started)


def _model_rdms(
    store: Store,
    layers: Sequence[LayerSource],
    shown: SubjectGroup,
    settings: RsaSettings,
    *,
    device: str,
    progress: Progress,
) -> np.ndarray:
    """Return the RDM of each layer over all stimuli, float64 (n_layers, n_pairs): clips averaged, nothing convolved."""
    from brainsim.commands.kernels import block_width, clip_averages
    from brainsim.rsa.rdm import gram_of_blocks, square_rdm, upper

    n_rows = shown.layout.n_rows
    width = block_width(2 * n_rows)  # they are float64
    # Models have no noise: where the brain's distances are squared and in units of it, theirs are squared.
    distance = "sqeuclidean" if settings.distance in REPEAT_DISTANCES else settings.distance

    def features(layer: LayerSource) -> Iterator[np.ndarray]:
        averages = [clip_averages(store, layer, timing).astype(np.float64) for timing in shown.timing]
        for start in range(0, layer.n_features, width):
            columns = slice(start, min(start + width, layer.n_features))
            yield np.concatenate(
                [
                    average @ store.read(layer.nodes[timing.stimulus], "values", columns=columns).astype(np.float64)
                    for average, timing in zip(averages, shown.timing, strict=True)
                ]
            )

    rdms = np.empty((len(layers), n_rows * (n_rows - 1) // 2))
    with progress.task("model RDMs", total=len(layers), unit="layers") as task:
        for row, layer in enumerate(layers):
            gram, sums = gram_of_blocks(features(layer), n_rows, device=device)
            square = square_rdm(gram, sums, layer.n_features, distance=distance, name=layer.name, rows="stimuli")
            rdms[row] = upper(square)
            task.advance()
    return rdms


def _brain_rdms(
    store: Store, group: SubjectGroup, repeats: Sequence[Sequence[int]], settings: RsaSettings, progress: Progress
) -> tuple[dict[str, np.ndarray], dict[tuple[str, str], int], list[str]]:
    """Return the RDMs of each stream that all subjects have, their voxels, and what must be known."""
    from brainsim.commands.rsa_rdms import stream_patterns

    found: dict[str, list[np.ndarray]] = {}
    n_targets: dict[tuple[str, str], int] = {}
    notes: list[str] = []
    with progress.task("brain RDMs", total=len(group.subjects), unit="subjects") as task:
        for subject in group.subjects:
            told: list[str] = []
            for stream, patterns, n in stream_patterns(store, subject, repeats, told):
                found.setdefault(stream, []).append(
                    _stimulus_rdm(patterns, settings.distance, f"{subject.name} {stream}")
                )
                n_targets[subject.name, stream] = n
            notes += [f"{subject.name}: {note}" for note in told]
            task.advance()
    for stream in [stream for stream, rdms in found.items() if len(rdms) < len(group.subjects)]:
        notes.append(
            f"Stream {stream} is left out: {len(found.pop(stream))} of {len(group.subjects)} subjects have it."
        )
    if not found:
        raise InvalidValueError(f"no stream of {group.subjects[0].name} and all other subjects has a pattern.")
    n_repeats = sorted({len(runs) for runs in repeats})
    if settings.distance in REPEAT_DISTANCES and len(n_repeats) > 1:
        notes.append(
            f"Stimuli have {n_repeats[0]} to {n_repeats[-1]} repeats; the first {n_repeats[0]} of each are used."
        )
    return {stream: np.stack(rdms) for stream, rdms in found.items()}, n_targets, notes


def _stimulus_rdm(patterns: Sequence[np.ndarray], distance: str, name: str) -> np.ndarray:
    """Return the RDM of one stream over all stimuli, float64 (n_pairs,).

    Parameters
    ----------
    patterns : sequence of ndarray, (n_repeats, n_stimuli, n_voxels)
        One per run of stimuli.
    """
    from brainsim.rsa.rdm import pattern_rdm
    from brainsim.rsa.repeats import crossnobis_rdm, mahalanobis_rdm

    if distance not in REPEAT_DISTANCES:
        return pattern_rdm(
            np.concatenate([p.mean(axis=0, dtype=np.float64) for p in patterns]),
            distance=distance,
            name=name,
            rows="stimuli",
        )
    n_repeats = min(len(p) for p in patterns)
    X = np.concatenate([p[:n_repeats] for p in patterns], axis=1)
    return crossnobis_rdm(X) if distance == "crossnobis" else mahalanobis_rdm(X)
