"""Turn options into the paragraphs of a methods section, with the references that they call for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from brainsim.report.content import Content, FitSet, Options, PartitionSet
from brainsim.report.methods_rsa import describe_accuracy, describe_audit, describe_claims, describe_similarity
from brainsim.report.methods_sources import describe_sources
from brainsim.report.references import REFERENCES, Reference, cite
from brainsim.report.statistics import describe_statistics
from brainsim.report.words import count, sentence

SOLVERS = {
    "loro": "one Cholesky factorisation per candidate, exact for every outer and inner fold (loro)",
    "himalaya-random-search": "the random search of himalaya",
    "himalaya-hyper-gradient": "the hyper-gradient descent of himalaya, once per outer fold",
}
HRFS = {"spm": ("SPM's", "friston1998"), "glover": ("Glover's", "glover1999")}


@dataclass(frozen=True)
class Method:
    """One paragraph: a heading, sentences, and a formula where one says it best."""

    heading: str
    text: str
    formula: str = ""


@dataclass(frozen=True)
class Methods:
    """Everything that was done, in words."""

    paragraphs: tuple[Method, ...]
    references: tuple[Reference, ...]


def write_methods(content: Content) -> Methods:
    """Return the methods section of a page."""
    paragraphs = [Method(heading, text) for heading, text in describe_sources(content)]
    paragraphs += [_describe_fit(f) for f in content.fits]
    told = {tuple(describe_estimator(f.options, n_folds=f.n_folds)): f"encoding model {f.name}" for f in content.fits}
    used: list[str] = []
    if content.fits or content.partitions:
        used += ["dupre2022", "nunez2019"]
    for partition in content.partitions:
        paragraphs += _describe_partition(partition, told)
        told.setdefault(_estimator_of(partition), f"partition {partition.name}")
        if partition.unique is not None:
            used += ["lescroart2015", "deheer2017"]
        used += ["groemping2007"] * (partition.shapley is not None)
        used += ["lex2014"] * any(len(part) > 1 for part in partition.parts)
    for heading, text, references in describe_statistics([*content.fits, *content.partitions]):
        paragraphs.append(Method(heading, text))
        used += references
    answered = [
        *describe_similarity(content.rsas),
        *map(describe_audit, content.audits),
        *map(describe_claims, content.claims),
        *map(describe_accuracy, content.accuracies),
    ]
    for heading, text, references in answered:
        paragraphs.append(Method(heading, text))
        used += references
    for truth in content.truths.values():
        if truth.description:
            paragraphs.append(Method(f"Planted truth of {truth.dataset}", sentence(truth.description)))
    return Methods(tuple(paragraphs), tuple(REFERENCES[k] for k in dict.fromkeys(used)))


def describe_estimator(options: Options, *, n_folds: int = 0) -> list[str]:
    """Return the sentences about bands, delays, cross-validation and search that fit and partition share."""
    sentences = []
    bands, scaling = options.get("bands", "system"), options.get("scaling")
    sentences.append(
        f"Banded ridge regression in its kernel form {cite('nunez2019', 'dupre2022')}: one linear kernel per {bands}, "
        "weighted and summed, with weights (gamma) and penalty (alpha) chosen for every target"
    )
    if scaling:
        words = {"zscore": "z-scored", "center": "centred, not scaled"}
        sentences.append(
            f"Features and responses were standardised within runs (features {words.get(scaling, scaling)})"
        )
    if delays := options.get("delays"):
        shown = ", ".join(f"{d:g}" for d in delays)
        sentences.append(
            f"Features entered at delays of {shown} TRs, inside runs only (no delay crosses a run boundary)"
        )
    if hrf := options.get("hrf"):
        whose, source = HRFS[hrf]
        sentences.append(
            f"Features, about their means of the run, were convolved with {whose} canonical haemodynamic response "
            f"{cite(source)}, inside runs only, and read in the middle of TRs"
        )
    sentences.append(_describe_cross_validation(options, n_folds))
    search = []
    is_descent = options.get("solver") == "himalaya-hyper-gradient"
    if options.get("n_candidates") and not is_descent:
        concentration = ", ".join(f"{c:g}" for c in options.get("concentration", ()))
        drawn = f"Dirichlet, concentration {concentration}" if concentration else "Dirichlet"
        search.append(f"{options['n_candidates']:,} candidate weightings asked for ({drawn})")
    if (alphas := options.get("alphas")) and not is_descent:
        search.append(f"{len(alphas)} penalties from {min(alphas):.3g} to {max(alphas):.3g}")
    if search:
        seed = f", seed {options['seed']}" if options.get("seed") is not None else ""
        sentences.append(f"Search: {' × '.join(search)}{seed}")
    if rounds := options.get("refine"):
        sentences.append(
            f"{count(int(rounds), 'round')} of further weightings were drawn around the best ones of each outer fold, "
            "and competed in that fold"
        )
    if solver := options.get("solver"):
        sentences.append(f"Solver: {SOLVERS.get(solver, solver)}")
    return sentences


def _describe_cross_validation(options: Options, n_folds: int) -> str:
    kind, folds = options.get("cv", "runs"), f" ({n_folds} folds)" if n_folds else ""
    if kind == "blocks":
        gap = options.get("gap_trs", options.get("gap", 0))
        what = (
            f"over {options.get('n_blocks', n_folds)} contiguous blocks of TRs, with a gap of {gap} TRs on either side "
            "of a test block left out of training"
        )
    elif kind == "groups":
        what = f"{options.get('n_folds', n_folds)}-fold over groups of whole runs"
    else:
        what = f"leave-one-run-out{folds}"
    if not options.get("nested", True):
        return (
            f"Cross-validation: single-level, {what}; hyperparameters were chosen by the mean test score over folds, "
            "the same for every fold, so scores are too good"
        )
    return (
        f"Cross-validation: nested, {what}; hyperparameters for a test fold were chosen by cross-validation among the "
        "other folds alone, and scores are means over test folds"
    )


def _describe_fit(fit: FitSet) -> Method:
    sentences = describe_estimator(fit.options, n_folds=fit.n_folds)
    if fit.layer_r2 is not None:
        sentences.append("Each layer was also fitted alone, with the same folds and penalties")
    return Method(f"Encoding model: {fit.name}", " ".join(map(sentence, sentences)))


def _describe_partition(partition: PartitionSet, told: Mapping[tuple[str, ...], str]) -> list[Method]:
    estimator = _estimator_of(partition)
    if estimator in told:
        estimator = (f"Regression, delays, cross-validation and search: as for {told[estimator]}",)
    sentences = [
        _describe_subsets(partition),
        *estimator,
        *_describe_pool(partition.options),
    ]
    after = [
        "Values are means over a stream's targets within each subject, then over subjects"
        + (f"; intervals: {partition.interval}" if partition.interval and partition.group else ""),
    ]
    if partition.product is not None:
        after.insert(
            0,
            "The product measure splits the joint model's R² over its families by the products of their predictions "
            "with the responses; it is not unique variance",
        )
    if partition.shapley is not None:
        after.insert(
            0,
            f"Shapley values {cite('groemping2007')} divide each shared part evenly among its families; they sum to "
            "the joint R²",
        )
    heading = f"Partition of variance: {partition.name}"
    if partition.unique is None:
        return [Method(heading, " ".join(map(sentence, [*sentences, *after])))]
    sentences.append("Unique variance of a family f is what is lost without it")
    formula = "unique(f) = R²(all families) − R²(all families but f)"
    return [
        Method(heading, " ".join(map(sentence, sentences))[:-1] + ":", formula),
        Method("", " ".join(map(sentence, after))),
    ]


def _estimator_of(partition: PartitionSet) -> tuple[str, ...]:
    return tuple(describe_estimator(partition.options, n_folds=partition.n_folds))


def _describe_subsets(partition: PartitionSet) -> str:
    m = len(partition.families)
    families = count(m, "family", "families")
    if not partition.n_subsets or partition.n_subsets == 2**m - 1:
        return (
            f"The cross-validated R² of every one of the {2**m - 1:,} combinations of {families} was computed per "
            "target, and variance was partitioned by inclusion and exclusion "
            f"{cite('lescroart2015', 'deheer2017')}"
        )
    spec = str(partition.options.get("subsets", ""))
    if partition.unique is None:
        return (
            f"The cross-validated R² of each of {families} alone and of all together was computed per target; unique "
            "and shared parts do not follow from these"
        )
    order = int(spec.removeprefix("max-order=")) if spec.startswith("max-order=") else 1
    lacking = "one of them" if order == 1 else f"at most {order} of them"
    found = (
        "which gives each family's unique part"
        if order == 1
        else f"and what up to {order} of them share was found by inclusion and exclusion"
    )
    return (
        f"The cross-validated R² of all {families} and of every combination that lacks {lacking} "
        f"({partition.n_subsets:,} of {2**m - 1:,}) was computed per target, {found} "
        f"{cite('lescroart2015', 'deheer2017')}"
    )


def _describe_pool(options: Options) -> list[str]:
    pool = (
        "One pool of weightings serves all combinations: patterns of absent, weak and strong families first, then "
        "random ones"
    )
    if str(options.get("solver", "loro")) != "loro":
        return [f"{pool}; each combination was searched afresh among those that use its families alone"]
    sentences = [f"{pool}; each is scored once and competes in every combination that contains its families"]
    if z := options.get("entry_z"):
        sentences.append(
            f"A family entered a target's model only if it raised the validation R² by {z:g}² (1 − R²) / n (n TRs)"
        )
    return sentences


def flatten_options(options: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return options as (name, value) lines; nested names are joined by dots, long lists are shortened."""
    lines: list[tuple[str, str]] = []
    for name, value in options.items():
        if isinstance(value, Mapping):
            lines += flatten_options(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple):
            shown = ", ".join(f"{v:.6g}" if isinstance(v, float) else str(v) for v in value[:24])
            lines.append((prefix + name, shown + (f", … ({len(value)})" if len(value) > 24 else "")))
        else:
            lines.append((prefix + name, "–" if value is None else str(value)))
    return lines
