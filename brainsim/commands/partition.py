"""Turn stored activations and BOLD into what each family explains alone and what families share, per target."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
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
    edge_shares,
    open_for_results,
    pack_subjects,
    plain_numbers,
    plan_encoding,
    resolve_device,
    result_is_done,
    stream_masks,
)
from brainsim.commands.encoding_results import PackResult, write_missing
from brainsim.core.checks import check_node_name, check_number
from brainsim.core.errors import InvalidValueError
from brainsim.core.progress import SILENT, Progress

if TYPE_CHECKING:
    from brainsim.encoding.best import SupportBest
    from brainsim.encoding.candidates import CandidatePool
    from brainsim.store import Store

# All 211 patterns of five families, 9 bands alone, and as many random mixtures within families.
DEFAULT_CANDIDATES = 300


@dataclass(frozen=True)
class PartitionSummary:
    """What a partition did and found.

    Parameters
    ----------
    name, dataset, store : str
        Where the result lies: ``partitions/{name}/{dataset}/{subject}`` and ``…/group``.
    subjects, families : tuple of str
        What was partitioned.
    n_subsets, n_candidates, n_alphas, n_folds : int
        Size of the lattice and of the search.
    rows : tuple of dict
        Per stream and family: unique R2 (mean over subjects of the mean over targets), its interval, counts.
    joint : tuple of dict
        Per stream: R2 of all families together.
    n_nodes_written, n_nodes_reused : int
        Result nodes made now, and found complete.
    warnings : tuple of str
        What must be known beside the parts.
    seconds : float
        Wall time.
    """

    name: str
    dataset: str
    store: str
    subjects: tuple[str, ...]
    families: tuple[str, ...]
    n_subsets: int
    n_candidates: int
    n_alphas: int
    n_folds: int
    rows: tuple[dict[str, Any], ...]
    joint: tuple[dict[str, Any], ...]
    n_nodes_written: int
    n_nodes_reused: int
    warnings: tuple[str, ...]
    seconds: float


def partition(
    name: str,
    *,
    dataset: str,
    store: Path | str = "store/brainsim.zarr",
    families: Mapping[str, Sequence[str]] | None = None,
    models: Sequence[str] = ("*",),
    bands: str = "system",
    delays: Sequence[int] = (1, 2, 3, 4),
    cv: str = "runs",
    n_blocks: int = 5,
    gap: int = 0,
    alphas: Sequence[float] | None = None,
    n_candidates: int = DEFAULT_CANDIDATES,
    concentration: Sequence[float] = (0.1, 1.0),
    entry_z: float = 2.0,
    scaling: str = "zscore",
    subjects: Sequence[str] = (),
    device: str = "auto",
    seed: int = 0,
    n_targets_batch: int = 8192,
    dry_run: bool = False,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> PartitionSummary:
    """Partition the explained variance over families of models: unique, shared, Shapley and product-measure parts.

    The cross-validated R2 of every subset of families comes from one pool of band mixtures; each mixture is scored once
    and competes in every subset that contains the families it uses. The unique part of a family is
    ``R2(all) - R2(all but it)``; shared parts follow by inclusion and exclusion.

    Parameters
    ----------
    name : str
        Name of the partition in the store.
    dataset : str
        Dataset given at ingest.
    store : Path
        Store that holds the activations and the BOLD.
    families : mapping of str to sequence of str
        Families as globs over models; by default the families that the models' rows name.
    models : sequence of str
        Globs over stored models or feature sets to take part.
    bands : {"layer", "system", "family"}
        What gets a weight of its own inside the families.
    delays : sequence of int
        Delays of the features against the BOLD, in TRs.
    cv : {"runs", "blocks"}
        Leave one run out, or contiguous blocks (for data of one or two runs).
    n_blocks : int
        Number of blocks with --cv blocks.
    gap : int
        TRs on either side of a block that training leaves out, with --cv blocks.
    alphas : sequence of float
        Ridge penalties to try, in units of the kernels' mean diagonal; half-decades from 0.01 to 100,000 by default.
    n_candidates : int
        Band mixtures to try over the whole lattice; at least the number of subsets.
    concentration : sequence of float
        Dirichlet concentrations of the random mixtures within families, used in turn.
    entry_z : float
        What a family must show to enter a target's model, as a z value: each family in it must raise the validation R2
        by z^2 (1 - R2) / n_TRs, the rise of one useless regressor at that z. At 0 any rise will do, and useless
        families come out slightly below zero, since what was chosen by chance does worse on the test run.
    scaling : {"zscore", "center"}
        Whether features are z-scored or only centred within runs.
    subjects : sequence of str
        Subjects to partition; all by default.
    device : str
        auto, cpu, cuda or cuda:N.
    seed : int
        Seed of the random mixtures.
    n_targets_batch : int
        Targets scored at once.
    dry_run : bool
        Say what would be done, and do nothing.
    overwrite : bool
        Replace a partition of this name that was made with other options.
    progress : Progress
        Where progress is told.

    Returns
    -------
    PartitionSummary

    Raises
    ------
    UnknownNameError, InvalidValueError, AlignmentError
        Names that are not stored, options that do not fit the data, TRs without features.

    References
    ----------
    Lescroart, Stansbury and Gallant 2015, Front. Comput. Neurosci. 9; Dupré la Tour et al. 2022, NeuroImage 264.
    """
    from brainsim.commands.partition_group import group_key, write_group
    from brainsim.variance.lattice import subset_names

    started = time.monotonic()
    check_node_name(name, what="the partition's name")
    check_number("--entry-z", entry_z, at_least=0, at_most=10)
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
    plan = plan_encoding(opened, options, families=families)
    if len(plan.families) < 2:
        raise InvalidValueError(
            f"only one family is selected ({plan.families[0]}); a partition needs at least two.",
            hint="--family NAME=GLOB,GLOB groups models into families; brainsim fit scores one",
        )
    n_drawn = _draw_pool(plan).n_candidates  # too many families are told before any work
    path = f"partitions/{name}/{dataset}/group"
    extra = {"entry_z": entry_z}
    keys = {s.name: plan.result_key("partition", group, s, extra) for group in plan.groups for s in group.subjects}
    result_is_done(opened, path, group_key(keys), overwrite=overwrite)  # so is a table of other subjects
    paths = {s.name: f"partitions/{name}/{dataset}/{s.name}" for group in plan.groups for s in group.subjects}
    done = write_missing(
        opened,
        plan,
        kind="partition",
        paths=paths,
        extra=extra,
        compute=lambda group: _partition_group(opened, plan, group, entry_z, progress),
        describe={
            "families": list(plan.families),
            "family_models": {family: _models_of(plan, family) for family in plan.families},
            "subsets": subset_names(plan.families),
        },
        overwrite=overwrite,
        dry_run=dry_run,
    )
    attributes: dict[str, Any] = {"rows": [], "joint": [], "warnings": []}
    if not dry_run:
        attributes = write_group(opened, plan, path, paths, done.keys, entry_z=entry_z, overwrite=overwrite)
    for warning in attributes["warnings"]:
        progress.warn(warning)
    return PartitionSummary(
        name=name,
        dataset=dataset,
        store=str(store),
        subjects=tuple(paths),
        families=plan.families,
        n_subsets=2 ** len(plan.families) - 1,
        n_candidates=n_drawn,
        n_alphas=len(options.alphas),
        n_folds=len(plan.folds(plan.groups[0])),
        rows=tuple(row for row in attributes["rows"] if row["quantity"] == "unique"),
        joint=tuple(attributes["joint"]),
        n_nodes_written=done.n_written,
        n_nodes_reused=done.n_reused,
        warnings=tuple(attributes["warnings"]),
        seconds=round(time.monotonic() - started, 3),
    )


def _draw_pool(plan: EncodingPlan) -> CandidatePool:
    from brainsim.encoding.candidates import draw_pool

    options = plan.options
    return draw_pool(
        plan.band_groups(), n_candidates=options.n_candidates, concentration=options.concentration, seed=options.seed
    )


def _models_of(plan: EncodingPlan, family: str) -> list[str]:
    return list(dict.fromkeys(la.model for band in plan.bands if band.family == family for la in band.layers))


def _partition_group(
    store: Store, plan: EncodingPlan, group: SubjectGroup, entry_z: float, progress: Progress
) -> Iterator[PackResult]:
    """Yield the partition of each pack of subjects."""
    from brainsim.commands.kernels import StoredKernels, ensure_band_kernels
    from brainsim.encoding.competition import best_of_subsets
    from brainsim.encoding.folds import index_folds
    from brainsim.encoding.search import SearchOptions, search_supports
    from brainsim.encoding.split import split_scores
    from brainsim.variance.lattice import subset_masks

    options = plan.options
    paths = ensure_band_kernels(store, plan.bands, group, plan.kernel_options, progress=progress)
    Ks = StoredKernels(store, paths)
    folds = index_folds(plan.folds(group), group.layout.n_rows)
    pool = _draw_pool(plan)
    masks = subset_masks(len(plan.families))
    for pack in pack_subjects(group, options.n_targets_batch):
        targets = load_targets(store, pack, plan.folds(group))
        parts, logs, edges = [], [], []
        streams = _StreamMeans.of(store, pack, targets, n_subsets=len(masks), n_folds=folds.n_folds)
        for columns in column_batches(targets.Y.shape[1], options.n_targets_batch):
            Y = targets.Y[:, columns]
            bests, log = search_supports(
                Ks,
                Y,
                pool=pool,
                alphas=options.alphas,
                folds=folds,
                device=options.device,
                options=SearchOptions(n_workers=plan.n_workers),
                progress=progress,
                label="partition",
            )
            by_fold: list[np.ndarray] = []
            correlations: list[np.ndarray] = []
            best: SupportBest | None = None
            for _, best in best_of_subsets(bests, masks, price=entry_z**2 / group.layout.n_rows):
                by_fold.append(best.r2.cpu().numpy())
                correlations.append(best.r.mean(dim=0).cpu().numpy())
            if best is None:
                raise InvalidValueError("no subset of families to score.")
            # The last subset is the joint one.
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
            scores = np.stack(by_fold)  # (n_subsets, n_folds, n_targets)
            streams.add(scores, columns)
            parts.append(_parts_of(scores.mean(axis=1), np.stack(correlations), split.r2, plan))
            logs.append(log)
            edges.append(edge_shares(best, len(options.alphas)))
        values = {key: np.concatenate([part[key] for part in parts], axis=-1) for key in parts[0]}
        yield PackResult(pack, targets, values, np.concatenate(edges), tuple(logs), streams.summaries())


@dataclass(frozen=True)
class _StreamMeans:
    """Mean scores of each subject's streams, fold by fold: what intervals over runs are made of."""

    names: tuple[tuple[str, ...], ...]  # streams of each subject
    membership: np.ndarray  # (n_all_streams, n_valid), rows sum to 1
    means: np.ndarray  # (n_subsets, n_folds, n_all_streams)

    @classmethod
    def of(cls, store: Store, pack: SubjectGroup, targets: Targets, *, n_subsets: int, n_folds: int) -> _StreamMeans:
        """Lay out the streams of all subjects of a pack."""
        names, rows = [], []
        for index, subject in enumerate(pack.subjects):
            masks = stream_masks(store, subject)
            names.append(tuple(masks))
            for mask in masks.values():
                row = np.zeros(targets.Y.shape[1])
                row[targets.columns[index]] = mask[targets.valid[index]]
                rows.append(row / row.sum() if row.any() else np.full_like(row, np.nan))
        return cls(tuple(names), np.stack(rows), np.zeros((n_subsets, n_folds, len(rows))))

    def add(self, scores: np.ndarray, columns: slice) -> None:
        """Count a batch of targets in, (n_subsets, n_folds, n_targets)."""
        self.means[...] += scores @ self.membership[:, columns].T

    def summaries(self) -> tuple[dict[str, np.ndarray], ...]:
        """Return each subject's ``stream_subset_r2``, (n_streams, n_subsets, n_folds)."""
        stops = np.cumsum([len(names) for names in self.names])
        parts = np.split(self.means, stops[:-1], axis=2)
        return tuple({"stream_subset_r2": part.transpose(2, 0, 1).astype(np.float32)} for part in parts)


def _parts_of(
    scores: np.ndarray, correlations: np.ndarray, split: np.ndarray, plan: EncodingPlan
) -> dict[str, np.ndarray]:
    """Return everything that follows from the scores of all subsets, per target."""
    from brainsim.variance.lattice import commonality_parts, shapley_values, unique_parts

    groups = np.asarray(plan.band_groups())
    product = np.stack([split[groups == g].sum(axis=0) for g in range(len(plan.families))])
    values = {
        "subset_r2": scores,
        "subset_r": correlations,
        "unique": unique_parts(scores),
        "parts": commonality_parts(scores),
        "shapley": shapley_values(scores),
        "product": product,
    }
    return {name: value.astype(np.float32) for name, value in values.items()}
