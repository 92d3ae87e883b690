"""Turn inner products of layers and stored BOLD into RDMs, block by block of pairs, one layer in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from brainsim.commands.encoding_data import Subject, SubjectGroup, tell_repeats
from brainsim.commands.encoding_plan import stream_masks
from brainsim.commands.rsa_grams import GramPlan, layer_grams
from brainsim.commands.rsa_options import REPEAT_DISTANCES, RsaSettings
from brainsim.core.errors import InvalidValueError
from brainsim.core.progress import Progress, progress_of_tasks

if TYPE_CHECKING:
    from brainsim.features.bands import LayerSource
    from brainsim.rsa.blocks import PairBlock
    from brainsim.store import Store

# A stream of one voxel has no pattern.
MIN_PATTERN = 2


@dataclass(frozen=True)
class GroupRdms:
    """RDMs of all layers and of all subjects' streams who saw the same, on the same pairs.

    Parameters
    ----------
    blocks : tuple of PairBlock
        The pairs.
    A : list of ndarray of float32, (n_layers, n_pairs) per block
        RDMs of layers.
    Y : list of ndarray of float32, (n_targets, n_pairs) per block
        RDMs of targets.
    targets : list of (str, str)
        Subject and stream of each target.
    n_voxels : dict of (str, str) to int
        Valid voxels of each target.
    warnings : dict of str to list of str
        What must be known of each subject.
    """

    blocks: tuple[PairBlock, ...]
    A: list[np.ndarray]
    Y: list[np.ndarray]
    targets: list[tuple[str, str]]
    n_voxels: dict[tuple[str, str], int]
    warnings: dict[str, list[str]]


def first_showings(group: SubjectGroup, *, at_least: int = 2) -> tuple[SubjectGroup, list[list[int]]]:
    """Return the group with every stimulus once, and the runs that repeat each.

    Raises
    ------
    InvalidValueError
        A stimulus that was shown less often than `at_least`: with one showing there is no noise to measure.
    """
    places: dict[tuple[Any, ...], list[int]] = {}
    for run, timing in enumerate(group.timing):
        places.setdefault((timing.stimulus, timing.grid), []).append(run)
    once = [group.timing[runs[0]].stimulus for runs in places.values() if len(runs) < at_least]
    if once:
        raise InvalidValueError(
            f"{len(once)} of {len(places)} stimuli were shown once ({', '.join(once[:3])}); distances in units "
            "of noise need every stimulus at least twice, at the same times.",
            hint="--distance correlation or euclidean; ingest --repeats keep does not average repeats",
        )
    # A TR that one showing lacks is no pattern with repeats.
    lacking = [sorted({row for run in runs for row in group.timing[run].left_out}) for runs in places.values()]
    shown = tuple(
        replace(group.timing[runs[0]], left_out=tuple(rows))
        for runs, rows in zip(places.values(), lacking, strict=True)
    )
    return replace(group, timing=shown), list(places.values())


def group_rdms(
    store: Store,
    group: SubjectGroup,
    layers: Sequence[LayerSource],
    settings: RsaSettings,
    *,
    device: str,
    progress: Progress,
) -> GroupRdms:
    """Make all RDMs of subjects who saw the same.

    Raises
    ------
    AlignmentError
        TRs without features.
    """
    from brainsim.rsa.blocks import make_blocks, remove_lag_means

    repeats = [[run] for run in range(len(group.timing))]
    shown = group
    if settings.distance in REPEAT_DISTANCES:
        shown, repeats = first_showings(group)
    blocks = make_blocks(
        shown.layout.names,
        shown.layout.n_trs,
        [t.grid.tr_s for t in shown.timing],
        pairs=settings.pairs,
        min_lag_s=settings.min_lag_s,
        trim_s=settings.trim_s,
        left_out=[t.left_out for t in shown.timing],
    )
    # Models have no noise: where the brain's distances are squared and in units of it, theirs are squared.
    of_models = "sqeuclidean" if settings.distance in REPEAT_DISTANCES else settings.distance
    A = [np.empty((len(layers), block.n_pairs), np.float32) for block in blocks]
    plan = GramPlan(shown.timing, tuple(block.runs for block in blocks), settings.sampling, device)
    with progress_of_tasks(progress), progress.task("model RDMs", total=len(layers), unit="layers") as task:
        for row, layer in enumerate(layers):
            rdms = layer_rdms(store, layer, plan, blocks, distance=of_models)
            for block, rdm in zip(A, rdms, strict=True):
                block[row] = rdm
            task.advance()
    targets: list[tuple[str, str]] = []
    vectors: list[list[np.ndarray]] = []
    n_voxels: dict[tuple[str, str], int] = {}
    warnings: dict[str, list[str]] = {}
    with progress.task("brain RDMs", total=len(group.subjects), unit="subjects") as task:
        for subject in group.subjects:
            warnings[subject.name] = [
                f"{said}: what is chosen or weighed by one is tested on the other; ingest --repeats mean averages them."
                for said in tell_repeats(shown)
                if settings.cv == "runs"
            ]
            for stream, rdms, n in stream_rdms(store, subject, blocks, repeats, settings, warnings[subject.name]):
                targets.append((subject.name, stream))
                n_voxels[subject.name, stream] = n
                vectors.append(rdms)
            task.advance()
    Y = [np.stack([rdms[b] for rdms in vectors]) if vectors else np.zeros((0, 0)) for b in range(len(blocks))]
    if not targets:
        raise InvalidValueError(f"no stream of any subject has {MIN_PATTERN} valid voxels.")
    if settings.lag_means == "removed":
        A = [remove_lag_means(rdms, block.lag) for rdms, block in zip(A, blocks, strict=True)]
        Y = [remove_lag_means(rdms, block.lag) for rdms, block in zip(Y, blocks, strict=True)]
    return GroupRdms(tuple(blocks), A, Y, targets, n_voxels, warnings)


def layer_rdms(
    store: Store, layer: LayerSource, plan: GramPlan, blocks: Sequence[PairBlock], *, distance: str
) -> list[np.ndarray]:
    """Return a layer's RDM of every block after the haemodynamic response, float64 (n_pairs,) each."""
    from brainsim.rsa.rdm import square_rdm

    rdms = []
    for block, gram in zip(blocks, layer_grams(store, layer, plan), strict=True):
        products, sums = gram.products[np.ix_(block.rows, block.rows)], gram.sums[block.rows]
        name = f"{layer.name} in run {block.name}"
        rdms.append(square_rdm(products, sums, layer.n_features, distance=distance, name=name)[block.i, block.j])
    return rdms


def stream_rdms(
    store: Store,
    subject: Subject,
    blocks: Sequence[PairBlock],
    repeats: Sequence[Sequence[int]],
    settings: RsaSettings,
    warnings: list[str],
) -> Iterator[tuple[str, list[np.ndarray], int]]:
    """Yield each stream with its RDM of every block, float32 (n_pairs,) each, and its number of valid voxels."""
    for stream, patterns, n in stream_patterns(store, subject, repeats, warnings):
        rdms = [_bold_rdm(patterns, block, settings.distance, f"{subject.name} {stream}") for block in blocks]
        yield stream, rdms, n


def stream_patterns(
    store: Store, subject: Subject, repeats: Sequence[Sequence[int]], warnings: list[str]
) -> Iterator[tuple[str, list[np.ndarray], int]]:
    """Yield each stream with its patterns and its number of valid voxels.

    Patterns are (n_repeats, n_rows, n_voxels) for each list of runs that repeat one another.
    """
    values = [store.read(node.path, "values") for node in subject.bold]
    valid = np.all([np.isfinite(v).all(axis=0) for v in values], axis=0)
    for stream, mask in stream_masks(store, subject).items():
        inside = mask & valid
        n = int(inside.sum())
        if n < MIN_PATTERN:
            warnings.append(f"Stream {stream} has {n} valid voxels; a pattern needs {MIN_PATTERN}.")
            continue
        yield stream, [np.stack([values[run][:, inside] for run in runs]) for runs in repeats], n


def _bold_rdm(patterns: Sequence[np.ndarray], block: PairBlock, distance: str, name: str) -> np.ndarray:
    from brainsim.rsa.rdm import square_rdm, to_square
    from brainsim.rsa.repeats import crossnobis_rdm, mahalanobis_rdm

    if distance in REPEAT_DISTANCES:
        n_repeats = min(len(patterns[run]) for run in block.runs)
        X = np.concatenate([patterns[run][:n_repeats] for run in block.runs], axis=1)[:, block.rows]
        square = to_square(crossnobis_rdm(X) if distance == "crossnobis" else mahalanobis_rdm(X))
    else:
        X = np.concatenate([patterns[run][0] for run in block.runs])[block.rows].astype(np.float64)
        square = square_rdm(X @ X.T, X.sum(axis=1), X.shape[1], distance=distance, name=name)
    pairs: np.ndarray = square[block.i, block.j].astype(np.float32)
    return pairs


def drift_caveats(subjects: Sequence[Subject]) -> list[str]:
    """Return what to know where BOLD keeps its slow drifts."""
    runs = [node for subject in subjects for node in subject.bold]
    cleaning = [node.attributes.get("cleaning") for node in runs]
    n_slow = sum(
        isinstance(told, Mapping) and not (told.get("high_pass_s") or told.get("detrend")) for told in cleaning
    )
    if not n_slow:
        return []
    return [
        f"{n_slow} of {len(runs)} runs of BOLD were not high-pass filtered (ingest --high-pass-s): what is slow is "
        "alike by its place in the run, and very slow features score too high."
    ]


def stored_otherwise(store: Store, layers: Sequence[LayerSource], protocol: str) -> list[str]:
    """Return the models whose activations were not made by a protocol of extraction."""
    others = [
        layer.model
        for layer in layers
        if store.info(next(iter(layer.nodes.values()))).attributes.get("protocol") != protocol
    ]
    return list(dict.fromkeys(others))


def study_caveats(store: Store, layers: Sequence[LayerSource], subjects: Sequence[Subject]) -> list[str]:
    """Return in which ways stored data are not what the study's scripts analyse."""
    found = []
    models = stored_otherwise(store, layers, "study")
    if models:
        found.append(
            f"{len(models)} of {len({la.model for la in layers})} models are stored by another protocol than study "
            f"({', '.join(models[:5])}): extract --protocol study gives the study's inputs and taps."
        )
    steps = {
        round(float(np.median(np.diff(store.read(node, "window_s")[:, 0]))), 3)
        for layer in layers
        for node in list(layer.nodes.values())[:1]
    }
    if steps != {0.2}:
        found.append(f"Clips begin every {', '.join(f'{s:g}' for s in sorted(steps))} s; the study has every 0.2 s.")
    scaled = {str(node.attributes.get("cleaning", "")) for subject in subjects for node in subject.bold}
    if any("zscore" in told for told in scaled):
        found.append(
            "BOLD was z-scored voxel by voxel; the study's was only centred: ingest --standardize none gives that."
        )
    return found
