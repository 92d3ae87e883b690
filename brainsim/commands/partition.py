"""Turn stored activations and BOLD into what each family explains alone and what families share, per target."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from brainsim.commands.encoding_options import DESCENT, EncodingOptions, EncodingWords, read_options
from brainsim.commands.encoding_plan import EncodingPlan, open_for_results, plan_encoding, result_is_done
from brainsim.commands.encoding_run import Analysis, result_keys, write_missing
from brainsim.commands.encoding_told import tell_searches
from brainsim.commands.words import takes_words
from brainsim.core.checks import check_choice, check_node_name, check_number
from brainsim.core.errors import InvalidValueError
from brainsim.core.progress import SILENT, Progress

if TYPE_CHECKING:
    from brainsim.variance.lattice import SubsetPlan

# What a family must show to enter a target's model, as a z value.
DEFAULT_ENTRY_Z = 2.0

# What each method tells of a family, and what it needs of the subsets.
METHODS = {"commonality": "unique", "shapley": "shapley", "product-measure": "product"}


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
    method : str
        What `rows` tell.
    rows : tuple of dict
        Per stream and family: the part that the method asks for (mean over subjects of the mean over targets), its
        interval, counts.
    shared : tuple of dict
        With commonality, per stream and set of two or more families: what they share and no other has, largest first.
    joint : tuple of dict
        Per stream: R2 of all families together.
    search : dict
        What happened in it: n_factored, n_float64, edge_share, gain (`encoding_told.tell_searches`).
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
    method: str
    rows: tuple[dict[str, Any], ...]
    shared: tuple[dict[str, Any], ...]
    joint: tuple[dict[str, Any], ...]
    search: dict[str, Any]
    n_nodes_written: int
    n_nodes_reused: int
    warnings: tuple[str, ...]
    seconds: float


@takes_words(EncodingOptions)
def partition(
    name: str,
    *,
    dataset: str,
    store: Path | str = "store/brainsim.zarr",
    families: Mapping[str, Sequence[str]] | None = None,
    method: str = "commonality",
    subsets: str = "all",
    entry_z: float | None = None,
    dry_run: bool = False,
    overwrite: bool = False,
    progress: Progress = SILENT,
    **words: Unpack[EncodingWords],
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
        Families as globs over models, each of which must match one; by default the families that the models' rows name.
    method : {"commonality", "shapley", "product-measure"}
        What is told of each family: its unique part, its fair share of all parts, or its share of the joint model's
        score (not unique: correlated families divide what they share). All that the subsets allow is stored.
    subsets : str
        Subsets of families to score: all, leave-one-out, singles, or max-order=K (parts shared by at most K families).
    entry_z : float, optional
        What a family must show to enter a target's model, as a z value: each family in it must raise the validation R2
        by z^2 (1 - R2) / n_TRs, the rise of one useless regressor at that z; 2 by default. At 0 any rise will do, and
        useless families come out slightly below zero, since what was chosen by chance does worse on the test run:
        himalaya's random search knows no such price, and has 0.
    words : EncodingWords
        Options shared with `fit`; see `EncodingOptions`.
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
    check_choice("--method", method, list(METHODS))
    options = read_options(words, verb="partition")
    if options.solver == DESCENT:
        raise InvalidValueError(
            f"--solver {DESCENT} finds its weights anew for every subset and target; a partition needs "
            "mixtures that compete: loro or himalaya-random-search."
        )
    entry_z = _read_entry_z(entry_z, options.solver)
    opened = open_for_results(store, dry_run=dry_run)
    plan = plan_encoding(opened, dataset, options, families=families)
    if len(plan.families) < 2:
        raise InvalidValueError(
            f"only one family is selected ({plan.families[0]}); a partition needs at least two.",
            hint="--family NAME=GLOB,GLOB groups models into families; brainsim fit scores one",
        )
    lattice = _plan_subsets(plan, subsets, method)
    plan, n_drawn = _with_pool(plan, lattice)
    path = f"partitions/{name}/{dataset}/group"
    analysis = Analysis(
        kind="partition",
        paths={subject.name: f"partitions/{name}/{dataset}/{subject.name}" for subject in plan.subjects},
        options={"entry_z": entry_z, "subsets": lattice.spec},
        describe={
            "families": list(plan.families),
            "family_models": {family: _models_of(plan, family) for family in plan.families},
            "subsets": subset_names(plan.families, lattice.masks),
            "parts": subset_names(plan.families, lattice.part_masks),
        },
    )
    keys = result_keys(plan, analysis)
    result_is_done(opened, path, group_key(keys), overwrite=overwrite)  # a table of other subjects has this name
    done = write_missing(opened, plan, analysis, overwrite=overwrite, dry_run=dry_run, progress=progress)
    attributes: dict[str, Any] = {"rows": [], "joint": [], "warnings": []}
    if not dry_run:
        attributes = write_group(opened, plan, lattice, analysis, path, keys, overwrite=overwrite)
    for warning in attributes["warnings"]:
        progress.warn(warning)
    wanted = METHODS[method] if lattice.has_unique or method != "commonality" else "alone"
    return PartitionSummary(
        name=name,
        dataset=dataset,
        store=str(store),
        subjects=tuple(analysis.paths),
        families=plan.families,
        n_subsets=len(lattice.masks),
        n_candidates=n_drawn,
        n_alphas=len(options.grid),
        n_folds=plan.n_folds,
        method=method,
        rows=tuple(row for row in attributes["rows"] if row["quantity"] == wanted),
        shared=_shared_parts(attributes.get("parts", ())) if method == "commonality" else (),
        joint=tuple(attributes["joint"]),
        search={} if dry_run else tell_searches(opened, list(analysis.paths.values())),
        n_nodes_written=done.n_written,
        n_nodes_reused=done.n_reused,
        warnings=tuple(attributes["warnings"]),
        seconds=round(time.monotonic() - started, 3),
    )


def _read_entry_z(entry_z: float | None, solver: str) -> float:
    """Return the z value of entering families, checked; the default where none is given."""
    if entry_z and solver != "loro":
        raise InvalidValueError(f"--entry-z is {entry_z:g}, and goes with --solver loro; --solver is {solver}.")
    if entry_z is None:
        return DEFAULT_ENTRY_Z if solver == "loro" else 0.0
    check_number("--entry-z", entry_z, at_least=0, at_most=10)
    return float(entry_z)


def _plan_subsets(plan: EncodingPlan, subsets: str, method: str) -> SubsetPlan:
    """Return the subsets to score, and refuse a method that needs more of them."""
    from brainsim.variance.lattice import subset_plan

    lattice = subset_plan(len(plan.families), subsets)
    if method == "shapley" and not lattice.is_complete:
        raise InvalidValueError(
            f"--subsets is {subsets}, and Shapley values need the score of every subset.", hint="--subsets all"
        )
    return lattice


def _with_pool(plan: EncodingPlan, lattice: SubsetPlan) -> tuple[EncodingPlan, int]:
    """Return the plan with the number of candidates that was asked for or is enough, and the size of the pool."""
    from brainsim.encoding.candidates import default_pool_size, draw_pool

    options, groups = plan.options, plan.band_groups()
    n_candidates = options.n_candidates or default_pool_size(len(plan.families), len(plan.bands), lattice.masks)
    pool = draw_pool(
        groups,
        n_candidates=n_candidates,
        concentration=options.concentration,
        seed=options.seed,
        subsets=None if lattice.is_complete else lattice.masks,
    )
    return replace(plan, options=replace(options, n_candidates=n_candidates)), pool.n_candidates


def _shared_parts(parts: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], ...]:
    """Return the parts of several families, stream by stream, largest first."""
    streams = list(dict.fromkeys(part["stream"] for part in parts))
    shared = [dict(part) for part in parts if len(part["families"]) > 1]
    return tuple(sorted(shared, key=lambda part: (streams.index(part["stream"]), -(part["mean"] or 0))))


def _models_of(plan: EncodingPlan, family: str) -> list[str]:
    return list(dict.fromkeys(la.model for band in plan.bands if band.family == family for la in band.layers))
