"""Turn stored activations and BOLD into similarities of their geometry: every layer and model against every stream."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brainsim.commands.encoding_data import SubjectGroup, find_subjects, group_by_timing
from brainsim.commands.encoding_plan import describe_layers, open_for_results, result_is_done, stream_masks
from brainsim.core.checks import check_choice, check_node_name, check_number
from brainsim.core.progress import SILENT, Progress

if TYPE_CHECKING:
    from brainsim.commands.encoding_data import Subject
    from brainsim.features.bands import LayerSource
    from brainsim.store import Store

DISTANCES = ("correlation",)

# Columns of activations in memory at once.
BLOCK_FEATURES = 16384

# A stream of one voxel has no pattern.
MIN_PATTERN = 2


@dataclass(frozen=True)
class RsaSummary:
    """What an RSA did and found.

    Parameters
    ----------
    name, dataset, store : str
        Where the result lies: ``rsa/{name}/{dataset}/{subject}`` and ``…/group``.
    subjects : tuple of str
        Who was compared.
    n_models, n_layers : int
        What was compared.
    distance, compare : str
        How.
    rows : tuple of dict
        Per stream and model: mean over subjects with interval.
    ceilings : tuple of dict
        Per stream: lower and upper noise ceiling.
    n_nodes_written, n_nodes_reused : int
        Result nodes made now, and found complete.
    warnings : tuple of str
        What must be known beside the scores.
    seconds : float
        Wall time.
    """

    name: str
    dataset: str
    store: str
    subjects: tuple[str, ...]
    n_models: int
    n_layers: int
    distance: str
    compare: str
    rows: tuple[dict[str, Any], ...]
    ceilings: tuple[dict[str, Any], ...]
    n_nodes_written: int
    n_nodes_reused: int
    warnings: tuple[str, ...]
    seconds: float


def rsa(
    name: str,
    *,
    dataset: str,
    store: Path | str = "store/brainsim.zarr",
    models: Sequence[str] = ("*",),
    distance: str = "correlation",
    compare: str = "spearman",
    min_lag_s: float = 8.0,
    subjects: Sequence[str] = (),
    seed: int = 0,
    dry_run: bool = False,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> RsaSummary:
    """Compare the representational geometry of models with that of each stream, run by run.

    Model features are averaged to TRs and convolved with the canonical haemodynamic response, exactly, in their inner
    products. RDMs hold 1 - Pearson between the TRs of a run. A model's layers are combined by non-negative least
    squares that is fitted on the other runs.

    Parameters
    ----------
    name : str
        Name of the analysis in the store.
    dataset : str
        Dataset given at ingest.
    store : Path
        Store that holds the activations and the BOLD.
    models : sequence of str
        Globs over stored models or feature sets.
    distance : {"correlation"}
        Dissimilarity of two TRs: 1 - Pearson over features or voxels.
    compare : {"spearman", "pearson", "kendall", "cosine"}
        Similarity of two RDMs; kendall is tau-a.
    min_lag_s : float
        Pairs of TRs that are closer than this are left out, in seconds: they are alike because BOLD is slow.
    subjects : sequence of str
        Subjects to compare; all by default.
    seed : int
        Recorded with the result; nothing is drawn.
    dry_run : bool
        Say what would be done, and do nothing.
    overwrite : bool
        Replace an analysis of this name that was made with other options.
    progress : Progress
        Where progress is told.

    Returns
    -------
    RsaSummary

    Raises
    ------
    UnknownNameError, InvalidValueError, AlignmentError
        Names that are not stored, options that do not fit the data, TRs without features.

    References
    ----------
    Kriegeskorte, Mur and Bandettini 2008, Front. Syst. Neurosci. 2; Nili et al. 2014, PLoS Comput. Biol. 10.
    """
    from brainsim.features.bands import select_layers
    from brainsim.rsa.compare import COMPARISONS

    started = time.monotonic()
    check_node_name(name, what="the analysis' name")
    check_choice("--distance", distance, DISTANCES)
    check_choice("--compare", compare, tuple(COMPARISONS))
    check_number("--min-lag-s", min_lag_s, at_least=0, unit="s")
    opened = open_for_results(store, dry_run=dry_run)
    groups = group_by_timing(find_subjects(opened, dataset, subjects))
    stimuli = list(dict.fromkeys(s for group in groups for s in group.stimuli))
    layers = select_layers(opened.nodes("activations", type="activations"), models=models, stimuli=stimuli)
    options = {
        "dataset": dataset,
        "models": list(models),
        "distance": distance,
        "compare": compare,
        "min_lag_s": min_lag_s,
        "seed": seed,
    }
    everyone = [s for group in groups for s in group.subjects]
    paths = {s.name: f"rsa/{name}/{dataset}/{s.name}" for s in everyone}
    group_path = f"rsa/{name}/{dataset}/group"
    # Ceilings need all subjects, so the subjects of an analysis are computed together.
    key = {
        "kind": "rsa",
        "options": options,
        "features": [list(layer.digests) for layer in layers],
        "data": {s.name: s.digests for s in everyone},
    }
    keys = {s.name: {**key, "subject": s.name} for s in everyone}
    is_done = [result_is_done(opened, paths[s], keys[s], overwrite=overwrite) for s in paths]
    is_done.append(result_is_done(opened, group_path, key, overwrite=overwrite))
    n_written = 0
    if not all(is_done) and not dry_run:
        results: dict[str, _SubjectRsa] = {}
        for group in groups:
            results |= _compare_group(opened, group, layers, compare, min_lag_s, progress)
        tables = _group_tables(results, layers, compare)
        for subject in everyone:
            result = results[subject.name]
            opened.write(
                paths[subject.name],
                type="rsa",
                key=keys[subject.name],
                arrays={"layer_score": result.layer_score, "model_score": result.model_score},
                attributes={
                    "layers": describe_layers(layers),
                    "models": _models(layers),
                    "streams": list(result.streams),
                    "comparison": compare,
                    "distance": distance,
                    "n_targets": result.n_targets,
                    "warnings": result.warnings,
                    "options": options,
                    "sources": subject.sources,
                },
                overwrite=overwrite,
            )
        opened.write(
            group_path,
            type="rsa-group",
            key=key,
            arrays={},
            attributes={
                **tables,
                "subjects": list(paths),
                "dataset": dataset,
                "options": options,
                "sources": list(paths.values()),
                "warnings": [f"{s}: {w}" for s, result in results.items() for w in result.warnings],
            },
            overwrite=overwrite,
        )
        n_written = len(paths) + 1
    tables = {} if dry_run else dict(opened.info(group_path).attributes)
    for warning in tables.get("warnings", ()):
        progress.warn(warning)
    return RsaSummary(
        name=name,
        dataset=dataset,
        store=str(store),
        subjects=tuple(paths),
        n_models=len(_models(layers)),
        n_layers=len(layers),
        distance=distance,
        compare=compare,
        rows=tuple(tables.get("rows", ())),
        ceilings=tuple(tables.get("ceilings", ())),
        n_nodes_written=n_written,
        n_nodes_reused=len(is_done) if all(is_done) else 0,
        warnings=tuple(tables.get("warnings", ())),
        seconds=round(time.monotonic() - started, 3),
    )


def _models(layers: Sequence[LayerSource]) -> list[dict[str, str]]:
    families = {layer.model: layer.family for layer in layers}
    return [{"model": model, "family": family} for model, family in families.items()]


@dataclass(frozen=True)
class _SubjectRsa:
    """One subject's scores, and the RDMs that ceilings are made of."""

    streams: tuple[str, ...]
    layer_score: np.ndarray  # (n_layers, n_streams)
    model_score: np.ndarray  # (n_models, n_streams)
    n_targets: dict[str, int]
    rdms: dict[str, list[np.ndarray]]  # stream -> per run (n_pairs,)
    timing: tuple[Any, ...]
    warnings: list[str]


def layer_rdms(store: Store, layer: LayerSource, group: SubjectGroup, keep: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return a layer's RDM of every run after the haemodynamic response, kept pairs only, float64 (n_pairs,) each.

    Features are streamed: inner products of the TRs and their sums over features are all that is kept of them.
    """
    from brainsim.commands.kernels import clip_averages
    from brainsim.features.hrf import hrf_matrix
    from brainsim.rsa.rdm import correlation_rdm_from_gram

    averages = [clip_averages(store, layer, timing) for timing in group.timing]
    grams = [np.zeros((n, n)) for n in group.layout.n_trs]
    sums = [np.zeros(n) for n in group.layout.n_trs]
    for start in range(0, layer.n_features, BLOCK_FEATURES):
        columns = slice(start, min(start + BLOCK_FEATURES, layer.n_features))
        read = {s: store.read(layer.nodes[s], "values", columns=columns).astype(np.float32) for s in group.stimuli}
        for run, (average, timing) in enumerate(zip(averages, group.timing, strict=True)):
            X = average @ read[timing.stimulus]  # (n_trs, n_columns)
            X = X - X.mean(axis=0)  # each feature about its mean of the run, as BOLD is
            grams[run] += X @ X.T
            sums[run] += X.sum(axis=1, dtype=np.float64)
    rdms = []
    for gram, total, timing, pairs in zip(grams, sums, group.timing, keep, strict=True):
        H = hrf_matrix(timing.grid.n_trs, timing.grid.tr_s)
        where = f"{layer.name} in run {timing.run}"
        rdms.append(correlation_rdm_from_gram(H @ gram @ H.T, H @ total, layer.n_features, name=where)[pairs])
    return rdms


def _compare_group(
    store: Store,
    group: SubjectGroup,
    layers: Sequence[LayerSource],
    compare: str,
    min_lag_s: float,
    progress: Progress,
) -> dict[str, _SubjectRsa]:
    """Compare all layers and models with the streams of subjects who saw the same."""
    from brainsim.rsa.rdm import distant_pairs

    lags = [int(np.ceil(min_lag_s / t.grid.tr_s - 1e-9)) for t in group.timing]
    keep = [
        distant_pairs(t.grid.n_trs, min_lag=lag, left_out=t.left_out) for t, lag in zip(group.timing, lags, strict=True)
    ]
    with progress.task("model RDMs", total=len(layers), unit="layers") as task:
        by_layer = []
        for layer in layers:
            by_layer.append(layer_rdms(store, layer, group, keep))
            task.advance()
    runs = [np.stack([rdms[run] for rdms in by_layer]) for run in range(len(group.timing))]  # (n_layers, n_pairs)
    results = {}
    with progress.task("comparisons", total=len(group.subjects), unit="subjects") as task:
        for subject in group.subjects:
            results[subject.name] = _compare_subject(store, subject, runs, keep, layers, compare)
            task.advance()
    return results


def _compare_subject(
    store: Store,
    subject: Subject,
    runs: Sequence[np.ndarray],
    keep: Sequence[np.ndarray],
    layers: Sequence[LayerSource],
    compare: str,
) -> _SubjectRsa:
    from brainsim.rsa.combine import combine_layers
    from brainsim.rsa.compare import COMPARISONS

    comparison = COMPARISONS[compare]
    rdms, n_targets, warnings = _stream_rdms(store, subject, keep)
    streams = tuple(rdms)
    models = [model["model"] for model in _models(layers)]
    rows = {model: [i for i, layer in enumerate(layers) if layer.model == model] for model in models}
    layer_score = np.zeros((len(layers), len(streams)))
    model_score = np.full((len(models), len(streams)), np.nan)
    for run, model_rdms in enumerate(runs):
        brain = np.stack([rdms[stream][run] for stream in streams])  # (n_streams, n_pairs)
        layer_score += comparison(model_rdms, brain) / len(runs)
    if len(runs) < 2:
        warnings.append("There is one run: layers cannot be combined without the run that is scored.")
    else:
        for m, model in enumerate(models):
            for s, stream in enumerate(streams):
                predicted = combine_layers([r[rows[model]] for r in runs], rdms[stream])
                scores = [comparison(p[None], b[None])[0, 0] for p, b in zip(predicted, rdms[stream], strict=True)]
                # No layer has a positive weight: the model predicts nothing, which is a score of 0.
                model_score[m, s] = float(np.mean(np.nan_to_num(scores)))
    timing = tuple(subject.timing)
    return _SubjectRsa(
        streams, layer_score.astype(np.float32), model_score.astype(np.float32), n_targets, rdms, timing, warnings
    )


def _stream_rdms(
    store: Store, subject: Subject, keep: Sequence[np.ndarray]
) -> tuple[dict[str, list[np.ndarray]], dict[str, int], list[str]]:
    """Return each stream's RDM of every run, its number of valid voxels, and warnings."""
    from brainsim.rsa.rdm import correlation_rdm

    values = [store.read(node.path, "values") for node in subject.bold]
    for v, timing in zip(
        values, subject.timing, strict=True
    ):  # TRs left out are 0, no pattern; their pairs are not kept
        v[list(timing.left_out)] = v[next(row for row in range(len(v)) if row not in timing.left_out)]
    valid = np.all([np.isfinite(v).all(axis=0) for v in values], axis=0)
    rdms, n_targets, warnings = {}, {}, []
    for stream, mask in stream_masks(store, subject).items():
        inside = mask & valid
        if inside.sum() < MIN_PATTERN:
            warnings.append(f"Stream {stream} has {int(inside.sum())} valid voxels; a pattern needs {MIN_PATTERN}.")
            continue
        n_targets[stream] = int(inside.sum())
        rdms[stream] = [
            correlation_rdm(v[:, inside], name=f"{subject.name} {stream}")[pairs]
            for v, pairs in zip(values, keep, strict=True)
        ]
    return rdms, n_targets, warnings


def _group_tables(results: Mapping[str, _SubjectRsa], layers: Sequence[LayerSource], compare: str) -> dict[str, Any]:
    """Average scores over subjects, with intervals, and make ceilings where subjects saw the same."""
    from brainsim.rsa.compare import COMPARISONS, noise_ceiling
    from brainsim.stats.intervals import interval_row

    streams = list(dict.fromkeys(s for result in results.values() for s in result.streams))
    rows, layer_rows, ceilings = [], [], []
    for stream in streams:
        having = [r for r in results.values() if stream in r.streams]
        at = [r.streams.index(stream) for r in having]
        for m, model in enumerate(_models(layers)):
            scores = np.array([r.model_score[m, s] for r, s in zip(having, at, strict=True)])
            rows.append({"stream": stream, **model, **interval_row(scores)})
        for index, layer in enumerate(layers):
            scores = np.array([r.layer_score[index, s] for r, s in zip(having, at, strict=True)])
            row = {"stream": stream, "model": layer.model, "layer": layer.layer, "index": layer.index}
            layer_rows.append({**row, **interval_row(scores)})
        lower, upper = [], []
        if len({r.timing for r in having}) == 1:
            for run in range(len(having[0].timing)):
                pair = noise_ceiling(np.stack([r.rdms[stream][run] for r in having]), COMPARISONS[compare])
                lower.append(pair[0])
                upper.append(pair[1])
        if lower and np.isfinite(lower).all():
            ceilings.append({"stream": stream, "lower": float(np.mean(lower)), "upper": float(np.mean(upper))})
    return {
        "rows": rows,
        "layers": layer_rows,
        "ceilings": ceilings,
        "interval": "95 % t interval of the mean over subjects",
    }
