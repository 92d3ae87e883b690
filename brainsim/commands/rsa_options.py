"""Turn the words of rsa into checked settings: one protocol, or two that are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from brainsim.core.checks import check_choice, check_number
from brainsim.core.errors import InvalidValueError
from brainsim.core.progress import SILENT, Progress
from brainsim.models.rows import STEPS

# Of what results hold and how it is made: those of another version are refused, and replaced with --overwrite.
VERSION = 3

PROTOCOLS = ("default", "study", "both")
METHODS = ("auto", "partition", "residual", "none")
PAIRS = ("within-run", "between-run", "all")
CV_KINDS = ("runs", "subjects")
REPEAT_DISTANCES = ("mahalanobis", "crossnobis")

# BOLD is alike from one TR to the next for about this long.
DEFAULT_LAG_S = 8.0

# Neighbouring runs of the study's movie share 16 s: half of it is cut from each edge, so that no frame is in two runs.
DEFAULT_TRIM_S = 8.0


@dataclass(frozen=True)
class RsaRequest:
    """What a user asks of an RSA beside the settings that change how things are compared: of what, where and for whom.

    Parameters
    ----------
    name, dataset : str
        Where results lie: ``rsa/{name}/{dataset}``.
    store : Path or str
        The store.
    models : tuple of str
        Globs over stored models.
    families : mapping of str to sequence of str, or None
        Families as globs over models; None for those of the models' rows.
    subset_spec : str
        Which subsets of families are scored.
    subjects : tuple of str
        Names of subjects; all where there are none.
    n_bootstraps : int
        Resamples of stimuli and subjects.
    device : str
        Where inner products are computed.
    seed : int
        Seed of resampling and of sign flips.
    dry_run, overwrite : bool
        Say only what would be done; replace a result that was made otherwise.
    progress : Progress
        Where progress is told.
    """

    name: str
    dataset: str
    store: Path | str
    models: tuple[str, ...] = ("*",)
    families: Mapping[str, Sequence[str]] | None = None
    subset_spec: str = "leave-one-out"
    subjects: tuple[str, ...] = ()
    n_bootstraps: int = 1000
    device: str = "cpu"
    seed: int = 0
    dry_run: bool = False
    overwrite: bool = False
    progress: Progress = SILENT


@dataclass(frozen=True)
class RsaSettings:
    """Everything that changes a number of an RSA of movies.

    Parameters
    ----------
    distance, compare, combine, cv, pairs, method : str
        Words of the command line.
    min_lag_s, trim_s : float
        Least time between the TRs of a pair; what is cut from each edge of a run.
    features : {"default", "study", "study-mask", "study-scaling", "study-window"}
        Which protocol's activations are taken where a model is stored by several.
    sampling : {"average", "window-start"}
        Features averaged to TRs about their mean of the run, then convolved; or each clip at the start of its window,
        convolved and sampled in the middle of TRs, as it is.
    weights : {"pooled", "averaged"}
        Layer weights fitted on all other runs' standardised RDMs together; or on each other run's RDM, then averaged.
    lag_means : {"removed", "kept"}
        Whether what depends on the time between TRs alone is taken out of RDMs (`remove_lag_means`).
    """

    distance: str = "correlation"
    compare: str = "spearman"
    combine: str = "nnls"
    cv: str = "runs"
    pairs: str = "within-run"
    method: str = "partition"
    min_lag_s: float = DEFAULT_LAG_S
    trim_s: float = DEFAULT_TRIM_S
    features: str = "default"
    sampling: str = "average"
    weights: str = "pooled"
    lag_means: str = "removed"

    def record(self) -> dict[str, Any]:
        """Return the settings as a key or an attribute holds them."""
        return asdict(self)


STUDY = RsaSettings(
    compare="pearson",
    method="residual",
    min_lag_s=0.0,
    trim_s=0.0,
    features="study",
    sampling="window-start",
    weights="averaged",
    lag_means="kept",
)


@dataclass(frozen=True)
class Quirk:
    """One step from protocol default to the study's.

    Parameters
    ----------
    name, words : str
        What a page calls it, and what is done then.
    changes : mapping
        Fields of the settings, and what they are then.
    """

    name: str
    words: str
    changes: Mapping[str, Any]

    @property
    def protocol(self) -> str:
        """The protocol of extraction that it is about; empty where it is about what is made of activations."""
        return str(self.changes.get("features", ""))


def _of_study(*names: str) -> dict[str, Any]:
    return {name: getattr(STUDY, name) for name in names}


QUIRKS: tuple[Quirk, ...] = (
    *(Quirk(name.removeprefix("study-"), words, {"features": name}) for name, (_, words) in STEPS.items()),
    Quirk("features", "all of these together: what extract --protocol study stores", _of_study("features")),
    Quirk(
        "sampling", "clips dated by the start of their window, features not centred over time", _of_study("sampling")
    ),
    Quirk("edges", "the edges of runs are kept", _of_study("trim_s")),
    Quirk(
        "lag",
        "pairs near in time, and what depends on the time between TRs alone, are kept",
        _of_study("min_lag_s", "lag_means"),
    ),
    Quirk("weights", "layer weights of single runs averaged, not fitted on all of them", _of_study("weights")),
    Quirk("comparison", "Pearson's r instead of rank correlation", _of_study("compare")),
)


def rsa_result_names(name: str, protocol: str) -> tuple[str, ...]:
    """Return the names of the results of an RSA: with both protocols that of the study's stands beside the other."""
    return (name, f"{name}-study") if protocol == "both" else (name,)


def is_of_study(attributes: Mapping[str, Any]) -> bool:
    """Return whether a result's attributes are those of an RSA by the study's protocol; other results have but one."""
    options: Mapping[str, Any] = attributes.get("options", {})
    return options.get("protocol") == "study"


def condition_settings(protocol: str, words: Mapping[str, Any], *, what: str) -> RsaSettings:
    """Check the words of an RSA of stimuli, which have no order in time, and fill in the defaults.

    Parameters
    ----------
    protocol : str
        As typed.
    words : mapping
        The words of `resolve_settings`, as typed.
    what : str
        What is compared, for the error.

    Raises
    ------
    InvalidValueError
        A word that only movies have.
    """
    nothing = {"cv": "runs", "pairs": "within-run", "min_lag_s": None, "trim_s": None, "keep_lag_means": False}
    if protocol != "default":
        raise InvalidValueError(f"--protocol is {protocol}; the study has movies only: {what} have default.")
    for name, default in nothing.items():
        if words[name] != default:
            raise InvalidValueError(
                f"--{name.replace('_', '-')} is {words[name]}; {what} have no time between rows.", hint="leave it out"
            )
    if words["method"] == "residual":
        raise InvalidValueError(
            f"--method is residual, the study's control between runs; {what} have partition or none."
        )
    return resolve_settings("default", **{**words, "min_lag_s": 0.0, "trim_s": 0.0})


def check_words(protocol: str, words: Mapping[str, Any]) -> None:
    """Refuse words that neither movies nor betas could take, before a store says which of the two there are.

    Raises
    ------
    InvalidValueError
        See `resolve_settings`.
    """
    # Betas have no lag, and comparisons of whole geometries want none: the default of movies is not held against them.
    lag_s = 0.0 if words["min_lag_s"] is None else words["min_lag_s"]
    resolve_settings("study" if protocol == "study" else "default", **{**words, "min_lag_s": lag_s})


def resolve_settings(
    protocol: str,
    *,
    distance: str,
    compare: str | None,
    combine: str,
    cv: str,
    pairs: str,
    method: str,
    min_lag_s: float | None,
    trim_s: float | None,
    keep_lag_means: bool,
) -> RsaSettings:
    """Check the words of one protocol and fill in its own defaults.

    Raises
    ------
    InvalidValueError
        Words that do not exist, or that a protocol fixes otherwise.
    """
    from brainsim.rsa.combine import COMBINATIONS
    from brainsim.rsa.compare import COMPARISONS, NEED_ALL_PAIRS
    from brainsim.rsa.rdm import DISTANCES

    check_choice("--distance", distance, (*DISTANCES, *REPEAT_DISTANCES))
    check_choice("--combine", combine, COMBINATIONS)
    check_choice("--cv", cv, CV_KINDS)
    check_choice("--pairs", pairs, PAIRS)
    check_choice("--method", method, METHODS)
    if compare is not None:
        check_choice("--compare", compare, tuple(COMPARISONS))
    for name, seconds in (("--min-lag-s", min_lag_s), ("--trim-s", trim_s)):
        if seconds is not None:
            check_number(name, seconds, at_least=0, unit="s")
    if protocol == "study":
        fixed = {
            "--distance": (distance, "correlation"),
            "--compare": (compare, "pearson"),
            "--combine": (combine, "nnls"),
            "--cv": (cv, "runs"),
            "--pairs": (pairs, "within-run"),
            "--min-lag-s": (min_lag_s, 0),
            "--trim-s": (trim_s, 0),
        }
        for name, (value, its) in fixed.items():
            if value is not None and value != its:
                raise InvalidValueError(
                    f"{name} is {value}; --protocol study has {its}.", hint="--protocol default takes any"
                )
        return replace(STUDY, method="residual" if method == "auto" else method)
    settings = RsaSettings(
        distance=distance,
        compare=compare or "spearman",
        combine=combine,
        cv=cv,
        pairs=pairs,
        method="partition" if method == "auto" else method,
        min_lag_s=DEFAULT_LAG_S if min_lag_s is None else min_lag_s,
        trim_s=DEFAULT_TRIM_S if trim_s is None else trim_s,
        # Whole geometries cannot be corrected pair by pair.
        lag_means="kept" if keep_lag_means or compare in NEED_ALL_PAIRS or pairs == "between-run" else "removed",
    )
    if settings.compare in NEED_ALL_PAIRS and (pairs == "between-run" or settings.min_lag_s > 0):
        raise InvalidValueError(
            f"--compare {settings.compare} needs all pairs of TRs; --pairs {pairs} and --min-lag-s "
            f"{settings.min_lag_s:g} leave some out.",
            hint="--min-lag-s 0 with --pairs within-run or all, or --compare cosine",
        )
    return settings
