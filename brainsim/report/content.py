"""Turn what was computed into what a page is made of: plain frozen values, no store, no files.

`commands/report.py` fills these from the store; every figure, table and sentence of the page comes from them.
Axes of arrays: subjects first, then streams, then what is compared. NaN means "not there for this subject".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from brainsim.report.content_maps import MapSet as MapSet
from brainsim.report.content_rsa import AuditSet as AuditSet
from brainsim.report.content_rsa import GeometrySet as GeometrySet
from brainsim.report.content_rsa import RsaSet as RsaSet
from brainsim.report.values import Estimate as Estimate
from brainsim.report.values import Layer as Layer
from brainsim.report.values import Options as Options
from brainsim.report.values import RegionRow as RegionRow


@dataclass(frozen=True)
class SearchNote:
    """What happened while one subject's result was searched.

    Parameters
    ----------
    subject : str
    n_fitted, n_masked : int
        Targets with scores and without.
    masked : mapping of reason to int
        Why targets have none.
    edge_share : float
        Share of choices (targets x test folds) at an end of the grid of alphas; NaN where unknown.
    n_candidates : int
        Candidates that there were; 0 where unknown.
    n_factored, n_float64, n_failed : int
        Factorisations, those that needed float64, and candidates that could not be factorised.
    stopped : (int, int) or None
        Candidates that were scored, of how many, where the time ran out.
    gain : mapping
        What refinement gained.
    nulls : mapping
        Number of null data sets, their least shift, and what was compared.
    """

    subject: str
    n_fitted: int = 0
    n_masked: int = 0
    masked: Mapping[str, int] = field(default_factory=dict)
    edge_share: float = float("nan")
    n_candidates: int = 0
    n_factored: int = 0
    n_float64: int = 0
    n_failed: int = 0
    stopped: tuple[int, int] | None = None
    gain: Options = field(default_factory=dict)
    nulls: Options = field(default_factory=dict)


@dataclass(frozen=True)
class FitSet:
    """The encoding model `name` of one dataset, over its subjects.

    Parameters
    ----------
    r, r2 : mapping of stream to tuple of ndarray
        Cross-validated scores of each subject's targets in the stream, (n_targets_of_stream,), NaN where masked.
    bands, band_families : tuple of str
        Bands and the family of each.
    split_r2 : ndarray or None, (n_subjects, n_streams, n_bands)
        Each band's split score, mean over targets.
    layers : tuple of Layer
        What the last axis of `layer_r2` stands for.
    layer_r2 : ndarray or None, (n_subjects, n_streams, n_layers)
        R2 of each layer alone, mean over targets.
    significant : ndarray or None, (n_subjects, n_streams)
        Share of targets with q of 0.05 or less.
    normalised : ndarray or None, (n_subjects, n_streams)
        R2 as a share of the targets' noise ceilings, median over targets.
    regions : tuple of RegionRow
    searches : tuple of SearchNote
        One per subject.
    """

    name: str
    dataset: str
    subjects: tuple[str, ...]
    streams: tuple[str, ...]
    r: Mapping[str, tuple[np.ndarray, ...]]
    r2: Mapping[str, tuple[np.ndarray, ...]]
    bands: tuple[str, ...] = ()
    band_families: tuple[str, ...] = ()
    split_r2: np.ndarray | None = None
    layers: tuple[Layer, ...] = ()
    layer_r2: np.ndarray | None = None
    significant: np.ndarray | None = None
    normalised: np.ndarray | None = None
    regions: tuple[RegionRow, ...] = ()
    searches: tuple[SearchNote, ...] = ()
    n_folds: int = 0
    options: Options = field(default_factory=dict)


@dataclass(frozen=True)
class PartitionSet:
    """The partition `name` of one dataset, over its subjects.

    Parameters
    ----------
    families : tuple of str
        What variance is divided among.
    n_targets : ndarray of int, (n_subjects, n_streams)
        Targets with a finite score.
    unique, shapley, product : ndarray or None, (n_subjects, n_streams, n_families)
        Means over the stream's targets; None where it does not follow from the subsets that were scored.
    joint : ndarray, (n_subjects, n_streams)
        R2 of all families together.
    alone : ndarray or None, (n_subjects, n_streams, n_families)
        R2 of each family alone, where those subsets were scored.
    n_subsets : int
        Subsets that were scored.
    significant : mapping of quantity to ndarray
        Share of targets with q of 0.05 or less: "joint" (n_subjects, n_streams), "unique" with an axis of families.
    normalised : ndarray or None, (n_subjects, n_streams)
        Joint R2 as a share of the targets' noise ceilings, median over targets.
    regions : tuple of RegionRow
    searches : tuple of SearchNote
        One per subject.
    parts : tuple of tuple of str
        Which families each part is shared by (one name: unique).
    part_values : ndarray, (n_subjects, n_streams, n_parts)
        Size of each part (Moebius inversion of the subsets' R2).
    group : mapping of (quantity, stream, family) to Estimate
        Quantities: unique, shapley, product. Empty where there is no group result.
    group_joint : mapping of stream to Estimate
    group_parts : mapping of (stream, families) to Estimate
    comparisons : tuple of mapping
        Per stream and two families: quantity, a, b, mean (of a less b), low, high, p, q, p_subjects, q_subjects.
    interval : str
        What an interval is, as a sentence part ("95 % bootstrap interval over subjects").
    of : str
        "responses", means over targets; or "RDMs", one per stream, where `n_targets` says which subjects have it.
    """

    name: str
    dataset: str
    subjects: tuple[str, ...]
    streams: tuple[str, ...]
    families: tuple[str, ...]
    n_targets: np.ndarray
    joint: np.ndarray
    unique: np.ndarray | None = None
    alone: np.ndarray | None = None
    shapley: np.ndarray | None = None
    product: np.ndarray | None = None
    parts: tuple[tuple[str, ...], ...] = ()
    part_values: np.ndarray | None = None
    n_subsets: int = 0
    significant: Mapping[str, np.ndarray] = field(default_factory=dict)
    normalised: np.ndarray | None = None
    regions: tuple[RegionRow, ...] = ()
    searches: tuple[SearchNote, ...] = ()
    n_folds: int = 0
    group: Mapping[tuple[str, str, str], Estimate] = field(default_factory=dict)
    group_joint: Mapping[str, Estimate] = field(default_factory=dict)
    group_parts: Mapping[tuple[str, tuple[str, ...]], Estimate] = field(default_factory=dict)
    comparisons: tuple[Options, ...] = ()
    interval: str = ""
    options: Options = field(default_factory=dict)
    of: str = "responses"

    @property
    def explained(self) -> str:
        """What is divided into parts, in words."""
        return "the variance of the brain's RDMs" if self.is_of_rdms else "the variance of responses"

    def title(self, words: str) -> str:
        """Return the title of a figure or table, which says so where it is of RDMs."""
        if not self.is_of_rdms:
            return words
        return f"Variance of RDMs: {words[0].lower() if words[1].islower() else words[0]}{words[1:]}"

    @property
    def is_of_rdms(self) -> bool:
        """Whether it is the variance of RDMs that is divided, of which there is one per stream."""
        return self.of == "RDMs"

    @property
    def random(self) -> str:
        """What varies at random in tests of families."""
        return "subjects and " + ("held-out parts of the stimuli" if "n_stimuli" in self.options else "runs")


@dataclass(frozen=True)
class ClaimsSet:
    """The answers `name` to declared claims on one dataset.

    Parameters
    ----------
    answers : tuple of mapping
        Per measure and claim: says, answer, p and q for and against, n_subjects, streams, source, reason.
    tests : tuple of mapping
        Per measure, claim, part and stream: estimate, low, high, reachable, bound, p_for, p_against, n_subjects.
    rules : mapping
        What was declared: alpha, correction, little, smallest, interval.
    readings : mapping of claim to str
        How its words were turned into a test.
    warnings : tuple of str
        What must be known beside the answers.
    """

    name: str
    dataset: str
    answers: tuple[Options, ...]
    tests: tuple[Options, ...] = ()
    rules: Options = field(default_factory=dict)
    readings: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class AccuracySet:
    """Published accuracies beside scores of systems, `name` of one dataset.

    Parameters
    ----------
    rows : tuple of mapping
        Per measure, stream and model: accuracy (per cent), task, accuracy_source, score, ceiling, normalised, low and
        high.
    correlations : tuple of mapping
        Per measure and stream: correlation, low, high, p, n_models, n_subjects.
    method : str
        "kendall" or "spearman".
    warnings : tuple of str
        What must be known beside the numbers.
    """

    name: str
    dataset: str
    rows: tuple[Options, ...]
    correlations: tuple[Options, ...]
    method: str = "kendall"
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Truth:
    """What was planted in a simulated cohort: R2 by stream, family and part."""

    dataset: str
    unique: Mapping[tuple[str, str], float]
    joint: Mapping[str, float] = field(default_factory=dict)
    parts: Mapping[tuple[str, tuple[str, ...]], float] = field(default_factory=dict)
    null: frozenset[tuple[str, str]] = frozenset()
    description: str = ""


@dataclass(frozen=True)
class RunQuality:
    """One cleaned run and what cleaning saw; NaN or None where not measured."""

    dataset: str
    subject: str
    run: str
    n_trs: int
    tr_s: float
    n_valid: int
    n_targets: int
    tsnr_median: float = float("nan")
    variance_removed_median: float = float("nan")
    fd_mean_mm: float = float("nan")
    n_outlier_trs: int | None = None
    n_constant: int | None = None
    n_nan: int | None = None
    n_scrubbed: int | None = None
    n_repeats: int = 1


@dataclass(frozen=True)
class DatasetNote:
    """What one dataset is and how it was cleaned; `rows` of its runs are "TRs", or "stimuli" (betas)."""

    name: str
    space: str = ""
    streams: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    cleaning: Options = field(default_factory=dict)
    rows: str = "TRs"


@dataclass(frozen=True)
class SystemNote:
    """What one system is, and how its activations were made by one protocol.

    `of_stimuli` says that rows of features are single stimuli, not clips of movies.
    """

    name: str
    family: str
    n_layers: int
    kind: str = ""
    training_set: str = ""
    weights: str = ""
    protocol: str = ""
    clip_window: str = ""
    step_s: float = float("nan")
    pool: str = ""
    citation: str = ""
    of_stimuli: bool = False


@dataclass(frozen=True)
class NodeNote:
    """One node of the store that the page was made from."""

    path: str
    type: str
    digest: str
    created: str
    seed: int | None
    n_bytes: int
    options: Options = field(default_factory=dict)
    software: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Content:
    """Everything one page tells."""

    fits: tuple[FitSet, ...] = ()
    partitions: tuple[PartitionSet, ...] = ()
    rsas: tuple[RsaSet, ...] = ()
    audits: tuple[AuditSet, ...] = ()
    maps: tuple[MapSet, ...] = ()
    claims: tuple[ClaimsSet, ...] = ()
    accuracies: tuple[AccuracySet, ...] = ()
    truths: Mapping[str, Truth] = field(default_factory=dict)
    runs: tuple[RunQuality, ...] = ()
    datasets: tuple[DatasetNote, ...] = ()
    systems: tuple[SystemNote, ...] = ()
    nodes: tuple[NodeNote, ...] = ()
    warnings: tuple[str, ...] = ()
    software: Mapping[str, str] = field(default_factory=dict)
    store: str = ""
    title: str | None = None
    created: str = ""
