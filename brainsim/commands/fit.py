"""Turn stored activations and BOLD into cross-validated scores: nested banded ridge, per target, band and layer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

from brainsim.commands.encoding_options import DESCENT, EncodingOptions, EncodingWords, read_options
from brainsim.commands.encoding_plan import FIT_CANDIDATES, describe_layers, open_for_results, plan_encoding
from brainsim.commands.encoding_run import Analysis, write_missing
from brainsim.commands.encoding_told import tell_searches
from brainsim.commands.fit_kept import check_kept_size, read_kept
from brainsim.commands.fit_streams import summarise_fits
from brainsim.commands.words import takes_words
from brainsim.core.checks import check_node_name
from brainsim.core.progress import SILENT, Progress


@dataclass(frozen=True)
class FitSummary:
    """What a fit did.

    Parameters
    ----------
    name, dataset, store : str
        Where the result lies: ``fits/{name}/{dataset}/{subject}``.
    subjects, bands, families : tuple of str
        What was fitted.
    n_layers, n_candidates, n_alphas, n_folds : int
        Size of the search; no candidates where himalaya descends.
    streams : tuple of dict
        Per subject and stream: mean R2 and r, medians, share of targets with r above 0.2, number of targets.
    search : dict
        What happened in it: n_factored, n_float64, edge_share, gain (`encoding_told.tell_searches`).
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
    bands: tuple[str, ...]
    families: tuple[str, ...]
    n_layers: int
    n_candidates: int
    n_alphas: int
    n_folds: int
    streams: tuple[dict[str, Any], ...]
    search: dict[str, Any]
    n_nodes_written: int
    n_nodes_reused: int
    warnings: tuple[str, ...]
    seconds: float


@takes_words(EncodingOptions)
def fit(
    name: str,
    *,
    dataset: str,
    store: Path | str = "store/brainsim.zarr",
    layer_curves: bool = True,
    keep: Sequence[str] = (),
    dry_run: bool = False,
    overwrite: bool = False,
    progress: Progress = SILENT,
    **words: Unpack[EncodingWords],
) -> FitSummary:
    """Fit nested cross-validated banded ridge and keep the scores of every target.

    Hyperparameters of every target and outer test run are chosen by leave-one-run-out among the other runs; the test
    run's BOLD never takes part. Features and BOLD are standardised within runs, delays stay inside runs.

    Parameters
    ----------
    name : str
        Name of the fit in the store.
    dataset : str
        Dataset given at ingest.
    store : Path
        Store that holds the activations and the BOLD.
    layer_curves : bool
        Also score every layer alone.
    keep : sequence of {"predictions", "band-predictions", "weights"}
        What to store of the models beside their scores: the cross-validated prediction of every TR, the same band by
        band, or each test run's dual weights and mixture. They are as large as the BOLD, times the bands or runs.
    words : EncodingWords
        Options shared with `partition`; see `EncodingOptions`.
    dry_run : bool
        Say what would be done, and do nothing.
    overwrite : bool
        Replace a fit of this name that was made with other options.
    progress : Progress
        Where progress is told.

    Returns
    -------
    FitSummary

    Raises
    ------
    UnknownNameError, InvalidValueError, AlignmentError
        Names that are not stored, options that do not fit the data, TRs without features.

    References
    ----------
    Nunez-Elizalde, Huth and Gallant 2019, NeuroImage 197; Dupré la Tour, Eickenberg, Nunez-Elizalde and Gallant 2022,
    NeuroImage 264.
    """
    started = time.monotonic()
    check_node_name(name, what="the fit's name")
    options = read_options(words, verb="fit")
    kept = read_kept(keep, options)
    if not options.n_candidates and options.solver != DESCENT:
        options = replace(options, n_candidates=FIT_CANDIDATES)
    opened = open_for_results(store, dry_run=dry_run)
    plan = plan_encoding(opened, dataset, options)
    analysis = Analysis(
        kind="fit",
        paths={subject.name: f"fits/{name}/{dataset}/{subject.name}" for subject in plan.subjects},
        options={"layer_curves": layer_curves, **({"keep": list(kept)} if kept else {})},
        describe={"layers": describe_layers(plan.layers)},
        wants_layers=layer_curves,
    )
    check_kept_size(opened, plan, kept)
    done = write_missing(opened, plan, analysis, overwrite=overwrite, dry_run=dry_run, progress=progress)
    rows, warnings = ([], []) if dry_run else summarise_fits(opened, plan, analysis.paths)
    for warning in warnings:
        progress.warn(warning)
    return FitSummary(
        name=name,
        dataset=dataset,
        store=str(store),
        subjects=tuple(analysis.paths),
        bands=tuple(band.name for band in plan.bands),
        families=plan.families,
        n_layers=len(plan.layers),
        n_candidates=0 if options.solver == DESCENT else _pool_size(len(plan.bands), options),
        n_alphas=len(options.grid),
        n_folds=plan.n_folds,
        streams=tuple(rows),
        search={} if dry_run else tell_searches(opened, list(analysis.paths.values())),
        n_nodes_written=done.n_written,
        n_nodes_reused=done.n_reused,
        warnings=tuple(warnings),
        seconds=round(time.monotonic() - started, 3),
    )


def _pool_size(n_bands: int, options: EncodingOptions) -> int:
    """Return how many mixtures are tried: even and single ones are always among them."""
    from brainsim.encoding.candidates import draw_pool

    return draw_pool([0] * n_bands, n_candidates=options.n_candidates, seed=options.seed).n_candidates
