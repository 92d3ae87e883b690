"""Turn similarities of models with one stream, stimulus by stimulus, into rows with intervals and chances."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from brainsim.commands.rsa_options import RsaSettings

if TYPE_CHECKING:
    from brainsim.commands.rsa_condition_models import ModelRdms
    from brainsim.stats.stimulus_bootstrap import BootstrapErrors


@dataclass(frozen=True)
class ModelScores:
    """Scores of all models in one stream.

    Parameters
    ----------
    values : ndarray, (n_models, n_subjects)
        Of the only layer over all pairs, or of layers combined, mean over held-out parts; NaN where there are none.
    rows : list of dict
        Model, family, mean, interval, p and p_subjects of each; ``scored_on`` says which pairs.
    comparisons : list of dict
        Every two models' difference, where all were scored on the same pairs.
    """

    values: np.ndarray
    rows: list[dict[str, Any]]
    comparisons: list[dict[str, Any]]


def score_models(
    found: ModelRdms,
    brain: np.ndarray,
    layer: np.ndarray,
    held_out: np.ndarray | None,
    settings: RsaSettings,
    options: Mapping[str, Any],
    *,
    n_draws: int,
    advance: Callable[[float], None] = lambda share: None,
) -> ModelScores:
    """Return every model's score and every difference, with intervals over drawn stimuli and subjects.

    Models of one layer need no weights, and are scored on all pairs. Where any model's layers are combined,
    differences are taken between scores on held-out parts, of all models alike.

    Parameters
    ----------
    found : ModelRdms
        Models.
    brain : ndarray, (n_subjects, n_pairs)
        RDMs of the stream.
    layer : ndarray, (n_layers, n_subjects)
        Similarity of each layer over all pairs.
    held_out : ndarray or None, (n_models, n_subjects, n_folds)
        Similarity of each model on held-out parts.
    settings, options
        Of the analysis.
    n_draws : int
        Draws of stimuli; 0 for none.
    advance : callable
        Told the share of the work that is done since it was last called.
    """
    columns = list(found.columns.values())
    alone = [row for row, own in enumerate(columns) if len(own) == 1]
    combined = [row for row, own in enumerate(columns) if len(own) > 1]
    whole = layer[[columns[row][0] for row in alone]]
    values = np.full((len(columns), len(brain)), np.nan)
    values[alone] = whole
    if held_out is not None:
        values[combined] = held_out[combined].mean(axis=-1)
    draws = _Draws(found, brain, settings, options, n_draws)
    whole_draws = draws.of_layers(alone) if n_draws and alone else None
    held_draws = draws.held_out(advance) if n_draws and combined and held_out is not None else None
    if held_draws is None:  # which tells how far it is by itself
        advance(1)
    errors: dict[int, tuple[float, float, float]] = {}
    if whole_draws is not None:
        errors |= _by_row(alone, draws.errors(whole_draws, whole))
    if held_draws is not None:
        errors |= _by_row(combined, draws.errors(held_draws[:, combined], values[combined]))
    rows = []
    for row, (name, own) in enumerate(found.columns.items()):
        head = {"model": name, "family": found.layers[own[0]]["family"]}
        on = "all pairs" if len(own) == 1 else "pairs of held-out stimuli"
        folds = values[row][:, None] if len(own) == 1 or held_out is None else held_out[row]
        rows.append({**head, "scored_on": on, **_row(folds, errors.get(row), options, combined=len(own) > 1)})
    # What is compared must be scored on the same pairs.
    compared, tables = (held_out, held_draws) if combined else (whole[..., None], whole_draws)
    if compared is None:
        return ModelScores(values, rows, [])
    comparisons = _compared(compared, tables, found, draws, options)
    return ModelScores(values, rows, comparisons)


def _by_row(rows: Sequence[int], errors: BootstrapErrors) -> dict[int, tuple[float, float, float]]:
    triples = zip(errors.stimuli, errors.subjects, errors.both, strict=True)
    return {row: (float(a), float(b), float(c)) for row, (a, b, c) in zip(rows, triples, strict=True)}


class _Draws:
    """Draws of stimuli and subjects, the same for all models, and what models score in them."""

    def __init__(
        self, found: ModelRdms, brain: np.ndarray, settings: RsaSettings, options: Mapping[str, Any], n_draws: int
    ) -> None:
        from brainsim.stats.stimulus_bootstrap import draw_units

        self._found, self._brain, self._settings = found, brain, settings
        self._squared = bool(options["squared"])
        self._counts, self._who = np.zeros((0, 0)), np.zeros((0, 0))
        if n_draws:
            n_stimuli = int(options["n_stimuli"])
            self._counts, self._who = draw_units(n_stimuli, len(brain), n_draws, seed=int(options["seed"]))

    def of_layers(self, models: Sequence[int]) -> np.ndarray:
        """Return the similarity of models of one layer over all pairs of a draw, (n_draws, n_models, n_subjects)."""
        from brainsim.rsa.compare import COMPARISONS
        from brainsim.stats.stimulus_bootstrap import similarity_draws

        how = self._settings.compare
        columns = list(self._found.columns.values())
        return self._told(
            similarity_draws(
                self._found.rdms[[columns[row][0] for row in models]],
                self._brain,
                COMPARISONS[how],
                self._counts,
                weighted=how if how in ("pearson", "cosine") else None,  # type: ignore[arg-type]  # one of the two
            )
        )

    def held_out(self, advance: Callable[[float], None]) -> np.ndarray:
        """Return the similarity of all models on held-out parts of a draw, (n_draws, n_models, n_subjects)."""
        from brainsim.rsa.held_out import score_draws

        sets = [np.asarray(columns) for columns in self._found.columns.values()]
        how = {"compare": self._settings.compare, "combine": self._settings.combine}
        return self._told(score_draws(self._found.rdms, self._brain, sets, self._counts, advance=advance, **how))

    def _told(self, tables: np.ndarray) -> np.ndarray:
        return tables**2 if self._squared else tables

    def errors(self, tables: np.ndarray, whole: np.ndarray) -> BootstrapErrors:
        """Return the standard errors of what has these values in draws."""
        from brainsim.stats.stimulus_bootstrap import errors_of

        return errors_of(tables, self._who, whole)


def _row(
    folds: np.ndarray, errors: tuple[float, float, float] | None, options: Mapping[str, Any], *, combined: bool
) -> dict[str, Any]:
    """Return mean, interval and p of a model's scores, (n_subjects, n_folds).

    Over stimuli and subjects where stimuli were drawn; else over subjects, and held-out parts where there are some.
    """
    from brainsim.stats.significance import score_rows

    (row,) = score_rows(folds[None], cross_validated=[combined])
    if not combined:  # over subjects alone: `p_subjects` says that
        row["p"] = None
    return row if errors is None or row["mean"] is None else row | _drawn(row["mean"], errors, len(folds), options)


def _drawn(
    mean: float,
    errors: tuple[float, float, float],
    n_subjects: int,
    options: Mapping[str, Any],
    *,
    two_sided: bool = False,
) -> dict[str, Any]:
    """Return interval and p of a mean from its errors; nothing where the error is 0 or unknown."""
    from scipy.stats import t

    stimuli, subjects, both = errors
    if not both > 0:
        return {}
    freedom = min([int(options["n_stimuli"])] + ([n_subjects] if n_subjects > 1 else [])) - 1
    half = float(t.ppf(0.975, freedom)) * both
    statistic = mean / both
    return {
        "low": mean - half,
        "high": mean + half,
        "error_stimuli": stimuli,
        "error_subjects": subjects if np.isfinite(subjects) else None,
        "error_both": both,
        "p": float(2 * t.sf(abs(statistic), freedom) if two_sided else t.sf(statistic, freedom)),
    }


def _compared(
    folds: np.ndarray, tables: np.ndarray | None, found: ModelRdms, draws: _Draws, options: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return every two models' difference, over subjects and what was held out, or drawn anew for both alike.

    Parameters
    ----------
    folds : ndarray, (n_models, n_subjects, n_folds)
        Scores of the same pairs; one fold where nothing was held out.
    tables : ndarray or None, (n_draws, n_models, n_subjects)
        The same in draws of stimuli, where there were any.
    """
    from brainsim.stats.significance import compare_rows

    names = list(found.columns)
    fitted = [len(own) > 1 for own in found.columns.values()]
    if tables is None:
        return compare_rows(folds, names, cross_validated=fitted, seed=int(options["seed"]))
    scores = folds.mean(axis=-1)
    rows = compare_rows(scores[..., None], names)
    for row, (a, b) in zip(rows, combinations(range(len(names)), 2), strict=True):
        row["p"] = None  # that of the draws, where they have an error
        apart, whole = tables[:, a] - tables[:, b], scores[a] - scores[b]
        errors = _by_row([0], draws.errors(apart[:, None], whole[None]))[0]
        if row["mean"] is not None:
            row |= _drawn(row["mean"], errors, len(whole), options, two_sided=True)
    return rows
