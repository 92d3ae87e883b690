"""Turn stored activations and BOLD into cross-validated scores: nested banded ridge, per target, band and layer."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brainsim.commands.encoding_data import SubjectGroup, Targets, load_targets
from brainsim.commands.encoding_plan import (
    DEFAULT_ALPHAS,
    EncodingOptions,
    EncodingPlan,
    column_batches,
    describe_layers,
    edge_shares,
    open_for_results,
    pack_subjects,
    plain_numbers,
    plan_encoding,
    resolve_device,
)
from brainsim.commands.encoding_results import PackResult, write_missing
from brainsim.commands.fit_streams import summarise_fits
from brainsim.core.checks import check_choice, check_node_name
from brainsim.core.progress import SILENT, Progress

if TYPE_CHECKING:
    from brainsim.encoding.best import SearchLog, SupportBest
    from brainsim.encoding.candidates import CandidatePool
    from brainsim.encoding.folds import FoldIndex
    from brainsim.store import Store

SOLVERS = ("loro", "himalaya-random-search")


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
        Size of the search.
    streams : tuple of dict
        Per subject and stream: mean R2 and r, medians, share of targets with r above 0.2, number of targets.
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
    n_nodes_written: int
    n_nodes_reused: int
    warnings: tuple[str, ...]
    seconds: float


def fit(
    name: str,
    *,
    dataset: str,
    store: Path | str = "store/brainsim.zarr",
    models: Sequence[str] = ("*",),
    bands: str = "system",
    delays: Sequence[int] = (1, 2, 3, 4),
    cv: str = "runs",
    n_blocks: int = 5,
    gap: int = 0,
    solver: str = "loro",
    alphas: Sequence[float] | None = None,
    n_candidates: int = 60,
    concentration: Sequence[float] = (0.1, 1.0),
    scaling: str = "zscore",
    layer_curves: bool = True,
    subjects: Sequence[str] = (),
    device: str = "auto",
    seed: int = 0,
    n_targets_batch: int = 8192,
    dry_run: bool = False,
    overwrite: bool = False,
    progress: Progress = SILENT,
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
    models : sequence of str
        Globs over stored models or feature sets.
    bands : {"layer", "system", "family"}
        What gets a weight of its own: every layer, every model or every family.
    delays : sequence of int
        Delays of the features against the BOLD, in TRs.
    cv : {"runs", "blocks"}
        Leave one run out, or contiguous blocks (for data of one or two runs).
    n_blocks : int
        Number of blocks with --cv blocks.
    gap : int
        TRs on either side of a block that training leaves out, with --cv blocks.
    solver : {"loro", "himalaya-random-search"}
        brainsim's exact one-factorisation solver, or himalaya's random search (slower; the reference).
    alphas : sequence of float
        Ridge penalties to try, in units of the kernels' mean diagonal; half-decades from 0.01 to 100,000 by default.
    n_candidates : int
        Band mixtures to try.
    concentration : sequence of float
        Dirichlet concentrations of the random mixtures, used in turn.
    scaling : {"zscore", "center"}
        Whether features are z-scored or only centred within runs.
    layer_curves : bool
        Also score every layer alone.
    subjects : sequence of str
        Subjects to fit; all by default.
    device : str
        auto, cpu, cuda or cuda:N.
    seed : int
        Seed of the random mixtures.
    n_targets_batch : int
        Targets scored at once.
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
    check_choice("--solver", solver, SOLVERS)
    options = EncodingOptions(
        dataset=dataset,
        models=tuple(models),
        bands=bands,
        delays=plain_numbers(delays),
        cv=cv,
        n_blocks=n_blocks,
        gap=gap,
        alphas=DEFAULT_ALPHAS if alphas is None else plain_numbers(alphas),
        n_candidates=n_candidates,
        concentration=plain_numbers(concentration),
        scaling=scaling,
        subjects=tuple(subjects),
        seed=seed,
        device=resolve_device(device),
        n_targets_batch=n_targets_batch,
    )
    opened = open_for_results(store, dry_run=dry_run)
    plan = plan_encoding(opened, options)
    extra = {"solver": solver, "layer_curves": layer_curves}
    paths = {s.name: f"fits/{name}/{dataset}/{s.name}" for group in plan.groups for s in group.subjects}
    done = write_missing(
        opened,
        plan,
        kind="fit",
        paths=paths,
        extra=extra,
        compute=lambda group: _fit_group(opened, plan, group, solver, layer_curves, progress),
        describe={"layers": describe_layers(plan.layers)},
        overwrite=overwrite,
        dry_run=dry_run,
    )
    rows, warnings = ([], []) if dry_run else summarise_fits(opened, plan, paths)
    for warning in warnings:
        progress.warn(warning)
    return FitSummary(
        name=name,
        dataset=dataset,
        store=str(store),
        subjects=tuple(paths),
        bands=tuple(band.name for band in plan.bands),
        families=plan.families,
        n_layers=len(plan.layers),
        n_candidates=_draw_pool(plan).n_candidates,
        n_alphas=len(options.alphas),
        n_folds=len(plan.folds(plan.groups[0])),
        streams=tuple(rows),
        n_nodes_written=done.n_written,
        n_nodes_reused=done.n_reused,
        warnings=tuple(warnings),
        seconds=round(time.monotonic() - started, 3),
    )


def _fit_group(
    store: Store, plan: EncodingPlan, group: SubjectGroup, solver: str, layer_curves: bool, progress: Progress
) -> Iterator[PackResult]:
    """Yield the fit of each pack of subjects."""
    from brainsim.commands.kernels import StoredKernels, ensure_band_kernels
    from brainsim.encoding.folds import index_folds

    paths = ensure_band_kernels(store, plan.bands, group, plan.kernel_options, progress=progress)
    Ks = StoredKernels(store, paths)
    folds = index_folds(plan.folds(group), group.layout.n_rows)
    for pack in pack_subjects(group, plan.options.n_targets_batch):
        targets = load_targets(store, pack, plan.folds(group))
        batches = list(column_batches(targets.Y.shape[1], plan.options.n_targets_batch))
        parts, logs, edges = [], [], []
        for columns in batches:
            values, best, log = _fit_batch(Ks, targets.Y[:, columns], plan, folds, group, solver, progress)
            parts.append(values)
            logs.append(log)
            edges.append(edge_shares(best, len(plan.options.alphas)))
        values = {key: np.concatenate([part[key] for part in parts], axis=-1) for key in parts[0]}
        if layer_curves:
            values["layer_r2"] = _layer_curves(store, plan, pack, targets, folds, progress)
        yield PackResult(pack, targets, values, np.concatenate(edges), tuple(logs))


def _draw_pool(plan: EncodingPlan) -> CandidatePool:
    """Draw the mixtures. A fit asks for the best one of all bands: one group, so that every candidate competes."""
    from brainsim.encoding.candidates import draw_pool

    options = plan.options
    return draw_pool(
        [0] * len(plan.bands),
        n_candidates=options.n_candidates,
        concentration=options.concentration,
        seed=options.seed,
    )


def _fit_batch(
    Ks: Sequence[np.ndarray],
    Y: np.ndarray,
    plan: EncodingPlan,
    folds: FoldIndex,
    group: SubjectGroup,
    solver: str,
    progress: Progress,
) -> tuple[dict[str, np.ndarray], SupportBest, SearchLog]:
    """Search and split one batch of targets."""
    from brainsim.encoding.best import SearchLog
    from brainsim.encoding.search import SearchOptions, search_supports
    from brainsim.encoding.split import split_scores

    options = plan.options
    pool = _draw_pool(plan)
    if solver == "loro":
        bests, log = search_supports(
            Ks,
            Y,
            pool=pool,
            alphas=options.alphas,
            folds=folds,
            device=options.device,
            options=SearchOptions(n_workers=plan.n_workers),
            progress=progress,
            label="fit",
        )
        best = bests[1]
    else:
        from brainsim.encoding.himalaya_solver import search_with_himalaya

        best = search_with_himalaya(
            Ks,
            Y,
            gammas=pool.gammas,
            alphas=options.alphas,
            folds=plan.folds(group),
            backend="torch_cuda" if options.device.startswith("cuda") else "torch",
            progress=progress,
        )
        log = SearchLog()
    split = split_scores(
        Ks,
        Y,
        gammas=pool.gammas,
        alphas=options.alphas,
        best=best,
        folds=folds,
        device=options.device,
        n_workers=plan.n_workers,
        progress=progress,
    )
    values = {
        "r2": best.r2.mean(dim=0).cpu().numpy(),
        "r": best.r.mean(dim=0).cpu().numpy(),
        "r2_folds": best.r2.cpu().numpy(),
        "r_folds": best.r.cpu().numpy(),
        "split_r2": split.r2,
        "weight": split.weight,
        "alpha_index": best.alpha.cpu().numpy().astype(np.int16),
    }
    return values, best, log


def _layer_curves(
    store: Store, plan: EncodingPlan, group: SubjectGroup, targets: Targets, folds: FoldIndex, progress: Progress
) -> np.ndarray:
    """Return the test R2 of each layer alone, (n_layers, n_valid)."""
    from brainsim.commands.kernels import LayerKernels
    from brainsim.encoding.candidates import single_bands
    from brainsim.encoding.search import SearchOptions, search_supports

    options = plan.options
    pool = single_bands(len(plan.layers))
    curves = np.empty((len(plan.layers), targets.Y.shape[1]), np.float32)
    for columns in column_batches(targets.Y.shape[1], options.n_targets_batch):
        bests, _ = search_supports(
            LayerKernels(store, plan.layers, group, plan.kernel_options),
            targets.Y[:, columns],
            pool=pool,
            alphas=options.alphas,
            folds=folds,
            device=options.device,
            options=SearchOptions(n_workers=plan.n_workers),
            progress=progress,
            label="layer curves",
        )
        for row, support in enumerate(pool.supports.tolist()):
            curves[row, columns] = bests[support].r2.mean(dim=0).cpu().numpy()
    return curves
