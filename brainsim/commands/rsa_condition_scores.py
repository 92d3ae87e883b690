"""Turn RDMs of stimuli into scores of layers and models, with intervals over stimuli and subjects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from brainsim.commands.rsa_group import family_tables, q_over_all
from brainsim.commands.rsa_options import RsaSettings
from brainsim.core.progress import Progress

if TYPE_CHECKING:
    from brainsim.commands.rsa_condition_models import ModelRdms


# Stimuli are held out in so many parts, every fifth one together: neighbours are often of one kind.
N_FOLDS = 5

# Fewer stimuli than this in a part have too few pairs to be scored.
MIN_HELD_OUT = 4


@dataclass(frozen=True)
class ConditionScores:
    """What an RSA of stimuli found.

    Parameters
    ----------
    layer : ndarray, (n_layers, n_streams, n_subjects)
        Similarity of whole RDMs.
    model : ndarray, (n_models, n_streams, n_subjects)
        That of the only layer, or of layers combined, among stimuli that were held out.
    tables : dict
        The group's.
    notes : list of str
        What must be known.
    subset_r2 : ndarray or None, (n_subsets, n_streams, n_subjects, n_folds)
        Variance of held-out RDMs that each subset of families explains.
    joint : ndarray or None, (n_sets, n_streams, n_subjects, n_folds)
        Similarity of sets of models together.
    """

    layer: np.ndarray
    model: np.ndarray
    tables: dict[str, Any]
    notes: list[str]
    subset_r2: np.ndarray | None = None
    joint: np.ndarray | None = None


def score_conditions(
    found: ModelRdms,
    brains: Mapping[str, np.ndarray],
    settings: RsaSettings,
    options: Mapping[str, Any],
    *,
    progress: Progress,
) -> ConditionScores:
    """Score every layer and model in every stream; see `ConditionScores`."""
    from brainsim.rsa.compare import COMPARISONS, NEED_ALL_PAIRS, noise_ceiling
    from brainsim.stats.intervals import interval_row

    comparison = COMPARISONS[settings.compare]
    squared = bool(options["squared"])
    n_draws = int(options["n_bootstraps"])
    notes: list[str] = []
    if n_draws and settings.compare in NEED_ALL_PAIRS:
        notes.append(f"{settings.compare} needs all pairs of stimuli, which a draw of stimuli has not: no bootstrap.")
        n_draws = 0
    streams = list(brains)
    layer = np.stack([comparison(found.rdms, brains[s]) for s in streams], axis=1)
    layer = layer**2 if squared else layer
    n_subjects = layer.shape[2]
    sets = _Sets.of(found, settings, str(options["subsets"]), int(options["n_stimuli"]), notes)
    held_out = {s: _held_out(found, brains[s], settings, int(options["n_stimuli"]), sets.columns) for s in streams}
    model = np.full((len(found.columns), len(streams), n_subjects), np.nan)
    rows, layer_rows, compared, ceilings = [], [], [], []
    with progress.task("streams", total=len(streams), unit="streams") as task:
        for at, stream in enumerate(streams):
            errors = _bootstrap(found, brains[stream], settings, options, n_draws, squared)
            for m, (name, columns) in enumerate(found.columns.items()):
                head = {"stream": stream, "model": name, "family": found.layers[columns[0]]["family"]}
                if len(columns) == 1:
                    model[m, at] = layer[columns[0], at]
                    rows.append({**head, **_whole_row(model[m, at], errors.get(columns[0]), settings, options)})
                else:
                    values = held_out[stream][0][m] if sets.models else np.full((n_subjects, 1), np.nan)
                    values = values**2 if squared else values  # (n_subjects, n_folds)
                    model[m, at] = values.mean(axis=1)
                    rows.append({**head, **_fold_row(values)})
            for index, row in enumerate(found.layers):
                told = {k: row[k] for k in ("model", "layer", "index")}
                layer_rows.append({"stream": stream, **told, **interval_row(layer[index, at])})
            if sets.models:
                compared += _compared(found, stream, held_out[stream][0][sets.models], squared, int(options["seed"]))
            low, high = noise_ceiling(brains[stream], comparison, raw=bool(options["raw_ceiling"]), squared=squared)
            if np.isfinite(low):
                ceilings.append({"stream": stream, "lower": low, "upper": high})
            task.advance()
    tables = {
        "rows": _with_q(rows),
        "layers": layer_rows,
        "comparisons": q_over_all(compared),
        "ceilings": ceilings,
        "interval": "95 % interval of the mean, subjects and stimuli as random effects (bootstrap of stimuli)"
        if n_draws
        else "95 % t interval of the mean over subjects",
    }
    if not sets.subsets:
        return ConditionScores(layer, model, tables, list(dict.fromkeys(notes)))
    tables |= family_tables({s: held_out[s][1][sets.subsets] for s in streams}, found.families, str(options["subsets"]))
    r2, joint = (
        np.stack([held_out[s][k][rows] for s in streams], axis=1) for k, rows in ((1, sets.subsets), (0, sets.joint))
    )
    return ConditionScores(layer, model, tables, list(dict.fromkeys(notes)), r2, joint)


@dataclass(frozen=True)
class _Sets:
    """Layers that are combined together, and what each set of them is for.

    Parameters
    ----------
    columns : list of ndarray of int
        Layers of each set.
    models : list of int
        Set of each model; none where there are too few stimuli to hold out.
    subsets, joint : list of int
        Sets of the subsets of families, and of all models and all but one family.
    """

    columns: list[np.ndarray]
    models: list[int]
    subsets: list[int]
    joint: list[int]

    @classmethod
    def of(cls, found: ModelRdms, settings: RsaSettings, spec: str, n_stimuli: int, notes: list[str]) -> _Sets:
        from brainsim.variance.lattice import mask_members, subset_plan

        alone = [np.asarray(columns) for columns in found.columns.values()]
        families = [np.concatenate([found.columns[m] for m in members]) for members in found.families.values()]
        partition = settings.method == "partition" and len(families) > 1
        if n_stimuli < N_FOLDS * MIN_HELD_OUT:
            if partition or any(len(columns) > 1 for columns in alone):
                notes.append(
                    f"{n_stimuli} stimuli are too few to combine layers ({N_FOLDS * MIN_HELD_OUT} are needed): layers "
                    "alone are scored."
                )
            return cls([], [], [], [])
        ends = [len(alone)] * 3
        if partition:
            masks = subset_plan(len(families), spec).masks
            alone += [np.concatenate([families[g] for g in mask_members(mask)]) for mask in masks]
            alone += [np.concatenate([found.columns[m] for m in members]) for members in found.joint_sets]
            ends = [ends[0], ends[0] + len(masks), len(alone)]
        return cls(alone, *(list(range(a, b)) for a, b in zip([0, *ends[:2]], ends, strict=True)))


def _held_out(
    found: ModelRdms, brain: np.ndarray, settings: RsaSettings, n_stimuli: int, sets: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return similarity and explained variance of sets of layers among held-out stimuli, (n_sets, n_subjects, n_folds).

    Weights are fitted on the pairs among all other stimuli, so that they never saw a stimulus that is scored.
    """
    from brainsim.rsa.combine import nnls_weights, ridge_weights, standardise
    from brainsim.rsa.compare import compare_each
    from brainsim.rsa.moments import pair_moments

    similar, r2 = (np.full((len(sets), len(brain), N_FOLDS), np.nan) for _ in range(2))
    i, j = np.triu_indices(n_stimuli, k=1)
    for fold in range(N_FOLDS if len(sets) else 0):
        held_i, held_j = i % N_FOLDS == fold, j % N_FOLDS == fold
        test, train = held_i & held_j, ~held_i & ~held_j
        moments = pair_moments(found.rdms[:, train], brain[:, train]).standardised()
        tested = pair_moments(found.rdms[:, test], brain[:, test]).standardised()
        spread = brain[:, train].std(axis=1, keepdims=True)
        offset = brain[:, train].mean(axis=1, keepdims=True) / np.where(spread > 0, spread, 1.0)
        # A penalty is chosen by leaving out parts of the training stimuli in turn.
        parts = [train & (i % N_FOLDS == k) & (j % N_FOLDS == k) for k in range(N_FOLDS) if k != fold]
        blocks = (
            [pair_moments(found.rdms[:, part], brain[:, part]).standardised() for part in parts]
            if settings.combine == "ridge"
            else []
        )
        layers = standardise(found.rdms[:, test])
        for row, columns in enumerate(sets):
            weights = ridge_weights(blocks, columns) if blocks else nnls_weights(moments, columns)
            predicted = weights @ layers[columns] + offset
            scores = np.nan_to_num(compare_each(settings.compare, predicted, brain[:, test]))
            similar[row, :, fold] = np.where((weights == 0).all(axis=1), 0.0, scores)
            r2[row, :, fold] = tested.r2(tested.R[:, columns] @ weights.T)
    return similar, r2


def _bootstrap(
    found: ModelRdms,
    brain: np.ndarray,
    settings: RsaSettings,
    options: Mapping[str, Any],
    n_draws: int,
    squared: bool,
) -> dict[int, tuple[float, float, float]]:
    """Return the standard errors over stimuli, subjects and both of models of one layer, by layer."""
    from brainsim.rsa.compare import COMPARISONS
    from brainsim.stats.stimulus_bootstrap import bootstrap_similarity

    alone = [columns[0] for columns in found.columns.values() if len(columns) == 1]
    if not n_draws or not alone:
        return {}
    how = settings.compare
    errors = bootstrap_similarity(
        found.rdms[alone],
        brain,
        COMPARISONS[how],
        n_stimuli=int(options["n_stimuli"]),
        weighted=how if how in ("pearson", "cosine") else None,  # type: ignore[arg-type]  # one of the two
        squared=squared,
        n_draws=n_draws,
        seed=int(options["seed"]),
    )
    triples = zip(errors.stimuli, errors.subjects, errors.both, strict=True)
    return {layer: (float(a), float(b), float(c)) for layer, (a, b, c) in zip(alone, triples, strict=True)}


def _whole_row(
    values: np.ndarray,
    errors: tuple[float, float, float] | None,
    settings: RsaSettings,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Return mean, interval and p of a model of one RDM, over stimuli and subjects where there was a bootstrap."""
    from scipy.stats import t

    from brainsim.stats.intervals import interval_row
    from brainsim.stats.sign_flip import sign_flip_p

    row = interval_row(values)
    row["p_subjects"] = float(sign_flip_p(values)) if len(values) > 1 else None
    row["p"] = None
    if errors is not None and errors[2] > 0:
        stimuli, subjects, both = errors
        units = [int(options["n_stimuli"])] + ([len(values)] if len(values) > 1 else [])
        freedom = min(units) - 1
        half = float(t.ppf(0.975, freedom)) * both
        row |= {
            "low": row["mean"] - half,
            "high": row["mean"] + half,
            "error_stimuli": stimuli,
            "error_subjects": subjects if np.isfinite(subjects) else None,
            "error_both": both,
            # The square of a similarity has no zero to be tested against.
            "p": None if options["squared"] else float(t.sf(row["mean"] / both, freedom)),
        }
    return row


def _fold_row(values: np.ndarray) -> dict[str, Any]:
    """Return mean, interval and p of a model whose layers were combined, over subjects and parts of the stimuli."""
    from brainsim.stats.intervals import crossed_row
    from brainsim.stats.sign_flip import sign_flip_p
    from brainsim.stats.significance import crossed_p

    p = crossed_p(values, cross_validated=True)
    flips = float(sign_flip_p(values.mean(axis=1))) if len(values) > 1 else np.nan
    return {
        **crossed_row(values, cross_validated=True),
        "p": p if np.isfinite(p) else None,
        "p_subjects": flips if np.isfinite(flips) else None,
    }


def _compared(found: ModelRdms, stream: str, scores: np.ndarray, squared: bool, seed: int) -> list[dict[str, Any]]:
    """Return every two models' difference among held-out stimuli, where models of one layer are scored like others."""
    from brainsim.stats.significance import compare_rows

    combined = [len(columns) > 1 for columns in found.columns.values()]
    rows = compare_rows(scores**2 if squared else scores, list(found.columns), cross_validated=combined, seed=seed)
    return [{"stream": stream, **row} for row in rows]


def _with_q(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    from brainsim.stats.fdr import false_discovery_rates

    p = np.array([np.nan if row["p"] is None else row["p"] for row in rows])
    q = false_discovery_rates(p)
    return [{**row, "q": float(value) if np.isfinite(value) else None} for row, value in zip(rows, q, strict=True)]
