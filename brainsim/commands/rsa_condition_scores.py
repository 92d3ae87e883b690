"""Turn RDMs of stimuli into scores of layers and models, with intervals over stimuli and subjects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from brainsim.commands.rsa_condition_rows import score_models
from brainsim.commands.rsa_group import family_tables
from brainsim.commands.rsa_options import RsaSettings
from brainsim.core.progress import Progress

if TYPE_CHECKING:
    from brainsim.commands.rsa_condition_models import ModelRdms


BOOTSTRAP = "95 % interval of the mean, subjects and stimuli as random effects (bootstrap of stimuli)"
WITHOUT_BOOTSTRAP = (
    "95 % t interval of the mean over subjects (layers combined: subjects and held-out parts of the stimuli as random "
    "effects)"
)


OF_PARTS = "95 % interval of the mean, subjects and held-out parts of the stimuli as random effects"


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
    from brainsim.rsa.compare import COMPARISONS, NEED_ALL_PAIRS, noise_ceiling, why_untested
    from brainsim.rsa.held_out import score_held_out
    from brainsim.stats.intervals import interval_row
    from brainsim.stats.significance import with_q

    comparison = COMPARISONS[settings.compare]
    squared, n_stimuli = bool(options["squared"]), int(options["n_stimuli"])
    n_draws = int(options["n_bootstraps"])
    untested = why_untested(settings.compare, squared=squared)
    notes = [untested] if untested else []
    if n_draws and settings.compare in NEED_ALL_PAIRS:
        notes.append(f"{settings.compare} needs all pairs of stimuli, which a draw of stimuli has not: no bootstrap.")
        n_draws = 0
    streams = list(brains)
    layer = np.stack([comparison(found.rdms, brains[s]) for s in streams], axis=1)
    layer = layer**2 if squared else layer
    sets = _Sets.of(found, settings, str(options["subsets"]), n_stimuli, notes)
    how = {"compare": settings.compare, "combine": settings.combine}
    held_out = {s: score_held_out(found.rdms, brains[s], sets.columns, n_stimuli=n_stimuli, **how) for s in streams}
    model = np.full((len(found.columns), len(streams), layer.shape[2]), np.nan)
    rows, layer_rows, compared, ceilings = [], [], [], []
    with progress.task("streams", total=len(streams), unit="streams") as task:
        for at, stream in enumerate(streams):
            similar = held_out[stream][0][sets.models]
            scored = score_models(
                found,
                brains[stream],
                layer[:, at],
                (similar**2 if squared else similar) if sets.models else None,
                settings,
                options,
                n_draws=n_draws,
                advance=task.advance,
            )
            model[:, at] = scored.values
            rows += [{"stream": stream, **row} for row in scored.rows]
            compared += [{"stream": stream, **row} for row in scored.comparisons]
            for index, row in enumerate(found.layers):
                told = {k: row[k] for k in ("model", "layer", "index")}
                layer_rows.append({"stream": stream, **told, **interval_row(layer[index, at])})
            low, high = noise_ceiling(brains[stream], comparison, raw=bool(options["raw_ceiling"]), squared=squared)
            if np.isfinite(low):
                ceilings.append({"stream": stream, "lower": low, "upper": high})
    tables = {
        "rows": with_q([{**row, "p": None, "p_subjects": None} for row in rows] if untested else rows),
        "layers": layer_rows,
        "comparisons": with_q(compared),
        "ceilings": ceilings,
        "interval": BOOTSTRAP if n_draws else WITHOUT_BOOTSTRAP,
        "untested": untested,
    }
    if not sets.subsets:
        return ConditionScores(layer, model, tables, list(dict.fromkeys(notes)))
    tables["interval_of_parts"] = OF_PARTS
    tables |= family_tables(
        {s: held_out[s][1][sets.subsets] for s in streams},
        found.families,
        str(options["subsets"]),
        seed=int(options["seed"]),
    )
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
        from brainsim.rsa.held_out import MIN_HELD_OUT, N_FOLDS
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
        if not partition and all(len(columns) == 1 for columns in alone):  # nothing has weights
            return cls([], [], [], [])
        ends = [len(alone)] * 3
        if partition:
            masks = subset_plan(len(families), spec).masks
            alone += [np.concatenate([families[g] for g in mask_members(mask)]) for mask in masks]
            alone += [np.concatenate([found.columns[m] for m in members]) for members in found.joint_sets]
            ends = [ends[0], ends[0] + len(masks), len(alone)]
        return cls(alone, *(list(range(a, b)) for a, b in zip([0, *ends[:2]], ends, strict=True)))
