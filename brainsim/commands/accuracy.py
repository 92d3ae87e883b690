"""Turn published accuracies and stored scores of single systems into their rank correlation, stream by stream."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brainsim.commands.encoding_plan import open_for_results, result_is_done
from brainsim.core.checks import check_choice, check_node_name
from brainsim.core.errors import InvalidValueError
from brainsim.core.progress import SILENT, Progress

if TYPE_CHECKING:
    from brainsim.commands.accuracy_rows import PublishedAccuracy
    from brainsim.stats.claims.scores import Scores
    from brainsim.store import Store

MEASURES = ("encoding", "geometry")
MEAN_OF_STREAMS = "mean of streams"


@dataclass(frozen=True)
class AccuracySummary:
    """What was related, and how closely.

    Parameters
    ----------
    name, dataset, store : str
        Where the result lies: ``accuracy/{name}/{dataset}``.
    correlations : tuple of dict
        Per measure and stream, and for the mean of the streams: correlation, low, high (over subjects), p (over
        models), n_models, n_subjects, source.
    rows : tuple of dict
        Per measure, stream and model: accuracy (per cent), task, accuracy_source, score, low, high, ceiling,
        normalised (score over ceiling), n_subjects.
    method : str
        "kendall" or "spearman".
    n_nodes_written, n_nodes_reused : int
        Result nodes made now, and found complete.
    warnings : tuple of str
        What must be known beside the numbers.
    seconds : float
        Wall time.
    """

    name: str
    dataset: str
    store: str
    correlations: tuple[dict[str, Any], ...]
    rows: tuple[dict[str, Any], ...]
    method: str
    n_nodes_written: int
    n_nodes_reused: int
    warnings: tuple[str, ...]
    seconds: float


def accuracy(
    name: str,
    *,
    dataset: str,
    store: Path | str = "store/brainsim.zarr",
    table: Path | str | None = None,
    measures: Sequence[str] = MEASURES,
    partitions: Sequence[str] | None = None,
    fits: Sequence[str] | None = None,
    rsas: Sequence[str] | None = None,
    streams: Sequence[str] = (),
    method: str = "kendall",
    seed: int = 0,
    dry_run: bool = False,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> AccuracySummary:
    """Relate the published top-1 accuracy of models to how well they match each stream.

    Scores are those of single systems: of a partition in which each system is a family, of fits of one system, of an
    RSA. They are divided by the noise ceiling where there is one. Intervals are over subjects, p is over models: few
    models cannot show much, however sure each one's score is.

    Parameters
    ----------
    name : str
        Name of the result in the store.
    dataset : str
        Dataset given at ingest.
    store : Path
        Store that holds the results.
    table : Path, optional
        Accuracies of your own models, or instead of the rows': a TSV with the columns model, accuracy (per cent) and
        source, and task where models were not trained on the same.
    measures : sequence of {"encoding", "geometry"}
        R2 of partitions and fits, similarity of RDMs.
    partitions, fits, rsas : sequence of str, optional
        Names of results to take scores from; by default all of the dataset, but an RSA of protocol study only where
        there is no other. Of each measure the one with most models is taken.
    streams : sequence of str
        Streams to relate; all by default.
    method : {"kendall", "spearman"}
        Kendall's tau-b or Spearman's rho.
    seed : int
        Seed of the bootstrap over subjects, and of orders of more than 8 models.
    dry_run : bool
        Say what would be told, and write nothing.
    overwrite : bool
        Replace a result of this name that was made with other options or results.
    progress : Progress
        Where progress is told.

    Returns
    -------
    AccuracySummary

    Raises
    ------
    UnknownNameError, InvalidValueError, InputFileError
        Names that are not stored, too few models with an accuracy, a table that cannot be read.

    References
    ----------
    Yamins et al. 2014, PNAS 111; Schrimpf et al. 2020, Neuron 108; Kendall 1945, Biometrika 33.
    """
    from brainsim.commands.accuracy_choice import choose_scores, tell_left_out
    from brainsim.commands.accuracy_rows import find_accuracies, read_accuracies, tell_unused
    from brainsim.commands.score_sources import find_scores, protocol_caveats
    from brainsim.stats.rank_correlation import METHODS

    started = time.monotonic()
    check_node_name(name, what="the result's name")
    check_choice("--method", method, METHODS)
    for measure in measures:
        check_choice("--measures", measure, MEASURES)
    own = {} if table is None else read_accuracies(table)
    opened = open_for_results(store, dry_run=dry_run)
    found = find_scores(opened, dataset, partitions=partitions, fits=fits, rsas=rsas, streams=streams, as_rows=False)
    scored = {system for scores in found for system in scores.systems}
    accuracies = find_accuracies(sorted(scored), own)
    untrained = _find_random(opened, accuracies)
    trained = {model: a for model, a in accuracies.items() if model not in untrained}
    try:
        chosen = choose_scores(found, measures, trained)
    except InvalidValueError as error:
        for note in tell_unused(own, scored=scored, used=trained):
            error.add_note(note)
        raise
    rows, correlations = [], []
    for scores, models in chosen:
        known = [trained[model] for model in models]
        ceilings = _find_ceilings(opened, scores)
        rows += _tell_models(scores, known, ceilings)
        correlations += _correlate(scores, known, ceilings, method, seed)
    used = {model for _, models in chosen for model in models}
    warnings = [
        *tell_unused(own, scored=scored, used=used),
        *protocol_caveats(opened, [scores for scores, _ in chosen]),
        *tell_left_out(found, chosen, measures),
        *_warn(untrained, rows, chosen, trained),
    ]
    path = f"accuracy/{name}/{dataset}"
    sources = [node for scores, _ in chosen for node in scores.nodes]
    told = {"dataset": dataset, "method": method, "streams": list(streams), "measures": list(measures), "seed": seed}
    key = {
        "kind": "accuracy",
        "options": told,
        "accuracies": [[a.model, a.percent, a.task, a.source] for a in trained.values()],
        "results": [[node, opened.info(node).digest] for node in sources],
    }
    is_done = result_is_done(opened, path, key, overwrite=overwrite)
    if not dry_run and not is_done:
        opened.write(
            path,
            type="accuracy",
            key=key,
            arrays={},
            attributes={
                "rows": rows,
                "correlations": correlations,
                "method": method,
                "dataset": dataset,
                "warnings": warnings,
                "options": told,
                "sources": sources,
            },
            overwrite=overwrite,
        )
    for warning in warnings:
        progress.warn(warning)
    return AccuracySummary(
        name=name,
        dataset=dataset,
        store=str(store),
        correlations=tuple(correlations),
        rows=tuple(rows),
        method=method,
        n_nodes_written=int(not is_done and not dry_run),
        n_nodes_reused=int(is_done),
        warnings=tuple(warnings),
        seconds=round(time.monotonic() - started, 3),
    )


def foresee(models: Collection[str], *, table: Path | str | None = None, **_: object) -> None:
    """Refuse models of which too few have an accuracy, before they are extracted: `brainsim run` asks.

    Raises
    ------
    InvalidValueError, InputFileError
        Too few; a table that cannot be read.
    """
    from brainsim.commands.accuracy_choice import MIN_MODELS, too_few
    from brainsim.commands.accuracy_rows import find_accuracies, read_accuracies, tell_unused

    own = {} if table is None else read_accuracies(table)
    known = find_accuracies(sorted(models), own)
    if len(known) < MIN_MODELS:
        error = too_few(len(known))
        for told in tell_unused(own, scored=models, used=known):
            error.add_note(told)
        raise error


def _find_random(store: Store, accuracies: Mapping[str, PublishedAccuracy]) -> list[str]:
    """Return models whose stored activations are of random weights: what is published was reached by others."""
    weights: dict[str, set[bool]] = {}
    for info in store.nodes("activations/", type="activations"):
        model = str(info.attributes["model"])
        if model in accuracies and not accuracies[model].is_own:
            made_by = info.key.get("weights", info.attributes.get("weights"))
            weights.setdefault(model, set()).add("random" in str(made_by))
    return sorted(model for model, kinds in weights.items() if kinds == {True})


def _find_ceilings(store: Store, scores: Scores) -> np.ndarray | None:
    """Return the noise ceiling of each subject and stream, (n_subjects, n_streams), where there is one.

    Of a similarity it is the lower ceiling of the stream; of R2 the mean of the targets' ceilings.
    """
    if scores.measure == "geometry":
        return scores.reachable
    dataset = scores.nodes[0].split("/")[2]
    ceilings = np.full((len(scores.subjects), len(scores.streams)), np.nan)
    for row, subject in enumerate(scores.subjects):
        targets = store.info(f"rois/{dataset}/{subject}")
        if "ceiling" not in targets.arrays:
            continue
        values = store.read(targets.path, "ceiling").astype(np.float64)
        membership = store.read(targets.path, "membership").astype(bool)  # (n_rois, n_targets)
        names = list(targets.attributes["roi_names"])
        for column, stream in enumerate(scores.streams):
            rois = [names.index(roi) for roi in targets.attributes["streams"].get(stream, ())]
            inside = membership[rois].any(axis=0) & np.isfinite(values)
            if inside.any() and values[inside].mean() > 0:
                ceilings[row, column] = values[inside].mean()
    return ceilings if np.isfinite(ceilings).any() else None


def _normalise(values: np.ndarray, ceilings: np.ndarray | None) -> np.ndarray:
    return values if ceilings is None else values / ceilings


def _tell_models(
    scores: Scores, known: Sequence[PublishedAccuracy], ceilings: np.ndarray | None
) -> list[dict[str, Any]]:
    """Return one row per stream and model."""
    from brainsim.stats.intervals import mean_interval

    rows = []
    for s, stream in enumerate(scores.streams):
        for model in known:
            values = np.asarray(scores.single(model.model))
            interval = mean_interval(_normalise(values, ceilings)[:, s])
            ceiling = math.nan if ceilings is None else float(np.nanmean(ceilings[:, s]))
            row = {
                "measure": scores.measure,
                "stream": stream,
                "model": model.model,
                "accuracy": model.percent,
                "task": model.task,
                "accuracy_source": model.source,
                "score": float(np.nanmean(values[:, s])),
                "ceiling": ceiling,
                "normalised": math.nan if ceilings is None else interval.mean,
                "low": interval.low,
                "high": interval.high,
                "n_subjects": interval.n,
                "source": scores.source,
            }
            rows.append({k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()})
    return rows


def _correlate(
    scores: Scores, known: Sequence[PublishedAccuracy], ceilings: np.ndarray | None, method: str, seed: int
) -> list[dict[str, Any]]:
    """Return one row per stream, and one for the mean of the streams where there are several."""
    from brainsim.stats.rank_correlation import bootstrap_over_subjects, permutation_p, rank_correlation

    x = np.array([model.percent for model in known])
    by_model = np.stack([_normalise(np.asarray(scores.single(m.model)), ceilings) for m in known], axis=-1)
    columns = {stream: by_model[:, s] for s, stream in enumerate(scores.streams)}  # (n_subjects, n_models) each
    if len(columns) > 1:
        columns[MEAN_OF_STREAMS] = by_model.mean(axis=1)
    rows = []
    for stream, values in columns.items():
        complete = values[np.isfinite(values).all(axis=1)]
        if not len(complete):
            continue
        mean = complete.mean(axis=0)
        low, high = bootstrap_over_subjects(x, complete, method=method, seed=seed)
        row = {
            "measure": scores.measure,
            "stream": stream,
            "correlation": float(rank_correlation(x, mean, method=method)),
            "low": low,
            "high": high,
            "p": permutation_p(x, mean, method=method, seed=seed),
            "n_models": len(known),
            "n_subjects": len(complete),
            "source": scores.source,
        }
        rows.append({k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()})
    return rows


def _warn(
    untrained: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    chosen: Sequence[tuple[Scores, list[str]]],
    accuracies: Mapping[str, PublishedAccuracy],
) -> list[str]:
    """Return what must be known: few models, several tasks, no ceiling, random weights."""
    warnings = []
    if untrained:
        warnings.append(
            f"{', '.join(untrained)} left out: stored with random weights, which reached none of what is published."
        )
    for scores, models in chosen:
        n = len(models)
        least = 2 / math.factorial(n)
        if least > 0.01:
            warnings.append(
                f"{scores.source}: {n} models; if accuracy has nothing to do with similarity, a perfect order comes up "
                f"by chance with p = {least:.2g}. The intervals are over subjects and say nothing about other models."
            )
        tasks = sorted({accuracies[model].task or "no task given" for model in models})
        if len(tasks) > 1:
            warnings.append(
                f"{scores.source}: accuracies are of {len(tasks)} tasks ({'; '.join(tasks)}), not of one scale."
            )
    bare = sorted({str(row["measure"]) for row in rows if row["ceiling"] is None})
    if bare:
        warnings.append(f"No noise ceiling is known for {' and '.join(bare)}: scores are not divided by one.")
    return warnings
