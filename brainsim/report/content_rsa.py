"""Turn what an RSA found into what a page is made of: scores, pairs, parts, pictures, and two protocols side by side.

As in `content`: subjects first, then streams, then what is compared; NaN means "not there for this subject".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from brainsim.report.values import Estimate, Layer, Options


@dataclass(frozen=True)
class GeometrySet:
    """RDMs to look at, and how alike all of them are.

    Parameters
    ----------
    names : tuple of str
        What each picture is of.
    kinds : tuple of str
        "stream" or the family of the system.
    pictures : ndarray, (n_pictures, n_pixels, n_pixels)
        Standardised dissimilarities, NaN where a pair is left out.
    similarity : ndarray, (n_layers + n_streams, n_layers + n_streams)
        How alike RDMs are: those of all layers, then those of streams, mean over subjects.
    layers : tuple of Layer
    streams : tuple of str
    rows : str
        "TRs" or "stimuli".
    block : str
        Name of the run that is pictured; empty for stimuli.
    n_rows, n_per_pixel : int
        Rows of the RDM that is pictured, and how many of them make one pixel.
    comparison : str
        How `similarity` was measured.
    n_subjects, n_blocks : int
        Over how many subjects streams, and over how many runs `similarity`, are means.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    pictures: np.ndarray
    similarity: np.ndarray
    layers: tuple[Layer, ...]
    streams: tuple[str, ...]
    rows: str
    block: str
    n_rows: int
    n_per_pixel: int
    comparison: str
    n_subjects: int
    n_blocks: int


@dataclass(frozen=True)
class RsaSet:
    """The representational similarity analysis `name` of one dataset, over its subjects.

    Parameters
    ----------
    models : tuple of (model, family)
    model_score : ndarray, (n_subjects, n_streams, n_models)
        Score of each system, its layers combined.
    layers : tuple of Layer
    layer_score : ndarray or None, (n_subjects, n_streams, n_layers)
    group : mapping of (stream, model) to Estimate
    ceilings : mapping of stream to (lower, upper)
    best_score : ndarray or None, (n_subjects, n_streams, n_models)
        Score of each system's best layer, chosen on other runs.
    best_layer : ndarray or None, (n_subjects, n_streams, n_models)
        Row of `layers` that is best over all runs; -1 where there is none.
    best : mapping of (stream, model) to Estimate
    comparisons : tuple of mapping
        Per stream and two systems: a, b, mean (of a less b), low, high, p, q.
    pairs : mapping of (stream, a, b) to Estimate
        Two systems' layers together, a before b.
    residuals : mapping of (stream, control, target) to Estimate
    together : mapping of stream to Estimate
        All layers of all systems together.
    families : tuple of str
        What RDM variance is divided among; empty where it is not.
    unique : ndarray or None, (n_subjects, n_streams, n_families)
    alone : ndarray or None, (n_subjects, n_streams, n_families)
    joint : ndarray or None, (n_subjects, n_streams)
    parts : tuple of tuple of str
    part_values : ndarray or None, (n_subjects, n_streams, n_parts)
    group_families : mapping of (quantity, stream, family) to Estimate
    group_parts : mapping of (stream, families) to Estimate
    group_joint : mapping of stream to Estimate
    family_comparisons : tuple of mapping
        As `PartitionSet.comparisons`.
    geometry : GeometrySet or None
    interval_of_parts : str
        What an interval of a family's part is, where it is another one.
    untested : str
        Why scores are not tested against zero, as a sentence; empty where they are.
    """

    name: str
    dataset: str
    subjects: tuple[str, ...]
    streams: tuple[str, ...]
    models: tuple[tuple[str, str], ...]
    model_score: np.ndarray
    layers: tuple[Layer, ...] = ()
    layer_score: np.ndarray | None = None
    group: Mapping[tuple[str, str], Estimate] = field(default_factory=dict)
    ceilings: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    best_score: np.ndarray | None = None
    best_layer: np.ndarray | None = None
    best: Mapping[tuple[str, str], Estimate] = field(default_factory=dict)
    comparisons: tuple[Options, ...] = ()
    pairs: Mapping[tuple[str, str, str], Estimate] = field(default_factory=dict)
    residuals: Mapping[tuple[str, str, str], Estimate] = field(default_factory=dict)
    together: Mapping[str, Estimate] = field(default_factory=dict)
    families: tuple[str, ...] = ()
    unique: np.ndarray | None = None
    alone: np.ndarray | None = None
    joint: np.ndarray | None = None
    parts: tuple[tuple[str, ...], ...] = ()
    part_values: np.ndarray | None = None
    n_subsets: int = 0
    group_families: Mapping[tuple[str, str, str], Estimate] = field(default_factory=dict)
    group_parts: Mapping[tuple[str, tuple[str, ...]], Estimate] = field(default_factory=dict)
    group_joint: Mapping[str, Estimate] = field(default_factory=dict)
    family_comparisons: tuple[Options, ...] = ()
    geometry: GeometrySet | None = None
    comparison: str = ""
    distance: str = ""
    interval: str = ""
    interval_of_parts: str = ""
    untested: str = ""
    options: Options = field(default_factory=dict)

    @property
    def is_study(self) -> bool:
        """Whether it was made by the study's protocol."""
        return self.options.get("protocol") == "study"

    @property
    def is_of_stimuli(self) -> bool:
        """Whether conditions are stimuli, not TRs."""
        return "n_stimuli" in self.options

    @property
    def is_bootstrapped(self) -> bool:
        """Whether intervals and p of systems are from draws of stimuli."""
        return self.is_of_stimuli and "bootstrap" in self.interval

    @property
    def n_layers(self) -> Mapping[str, int]:
        """How many layers each system has; empty where that is not known."""
        return Counter(layer.model for layer in self.layers)

    @property
    def held_out(self) -> str:
        """What is held out in turn where layers or families are combined."""
        return "held-out parts of the stimuli" if self.is_of_stimuli else "runs"

    @property
    def random(self) -> str:
        """What varies at random in tests of systems."""
        if self.is_bootstrapped:
            return "subjects and stimuli"
        alone = bool(self.n_layers) and max(self.n_layers.values()) == 1  # nothing is held out for one layer
        return "subjects" if self.is_of_stimuli and alone else f"subjects and {self.held_out}"


@dataclass(frozen=True)
class AuditSet:
    """Two protocols side by side: `name` as it is by default, and as the study does it.

    Parameters
    ----------
    default, study : mapping of (stream, model) to Estimate
        Scores of systems by the two protocols.
    models : tuple of (model, family)
    changed : tuple of mapping
        Conclusions that differ: stream, a, b, default, study (a system or "neither"), changed_by (names of steps).
    steps : tuple of mapping
        quirk, words, differs; not_stored (models whose activations by a step of extraction are not stored).
    n_conclusions : int
        How many there are: two systems in a stream each.
    max_q : float
        Above this false discovery rate a difference is no conclusion.
    n_subjects : int
    """

    name: str
    dataset: str
    streams: tuple[str, ...]
    models: tuple[tuple[str, str], ...]
    default: Mapping[tuple[str, str], Estimate]
    study: Mapping[tuple[str, str], Estimate]
    changed: tuple[Options, ...]
    steps: tuple[Options, ...]
    n_conclusions: int
    max_q: float
    n_subjects: int
    comparisons: tuple[str, str] = ("", "")

    @staticmethod
    def is_known(step: Options) -> bool:
        """Return whether it is known what a step changes: for some models at least, or because it changes none."""
        return bool(step["differs"]) or not step.get("not_stored")
