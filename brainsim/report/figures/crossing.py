"""Turn scores of two systems at a time into heat maps: together, one beside the other, one against the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from brainsim.report.content import Estimate, Options, PartitionSet, RsaSet
from brainsim.report.figures.canvas import Drawing, finish
from brainsim.report.figures.heat import draw_heat_maps
from brainsim.report.palette import order_families
from brainsim.report.reduce import FDR_LEVEL, estimate_of
from brainsim.report.tables import Cell, Column, Table, format_cell
from brainsim.report.words import count

# Of differences, in the order of the table's columns.
CHANCES = ("low", "high", "p", "q", "p_subjects", "q_subjects")


def order_models(models: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """Return (system, family) in the fixed order of families."""
    families = order_families([family for _, family in models])
    return tuple(sorted(models, key=lambda pair: families.index(pair[1])))


def draw_pairs(rsa: RsaSet, *, key: str) -> Drawing:
    """Draw what every two systems predict together; the diagonal holds single systems."""
    models = order_models(rsa.models)
    names = [m for m, _ in models]
    place = {m: i for i, (m, _) in enumerate(rsa.models)}
    found: dict[tuple[str, str, str], Estimate] = {}
    for (stream, a, b), estimate in rsa.pairs.items():
        found[stream, a, b] = found[stream, b, a] = estimate
    for s, stream in enumerate(rsa.streams):
        for m in names:
            found[stream, m, m] = estimate_of(rsa.group.get((stream, m)), rsa.model_score[:, s, place[m]])
    squares = _squares(rsa, found)
    figure = draw_heat_maps(
        squares, names, [f for _, f in models], row_label="", column_label="System (number)", bar_label="r"
    )
    rows = _rows(found, ("system", "and_system"), rsa, names, triangle=True)
    together = {s: e for s, e in rsa.together.items() if np.isfinite(e.mean)}
    all_layers = ", ".join(f"{s} {format_cell(together[s].mean)}" for s in rsa.streams if s in together)
    caption = (
        "Pearson's r (no unit) between a held-out run's RDM and what the layers of two systems together predict of it; "
        f"diagonal: one system{_of_another(rsa)}. Mean over n = {count(len(rsa.subjects), 'subject')} and all runs"
        + (f". All layers of all systems: {all_layers}" if together else "")
        + ". Intervals are in the TSV."
    )
    best = max(((k, e) for k, e in found.items() if k[1] != k[2]), key=lambda kv: np.nan_to_num(kv[1].mean, nan=-9.0))
    alt = (
        f"Heat maps of {len(names)} × {len(names)} pairs of systems. Largest: {' and '.join(best[0][1:])} in "
        f"{best[0][0]}."
    )
    return finish(
        figure, key, title="Two systems together", caption=caption, alt=alt,
        table=Table(key, "Scores of every two systems together", _columns("system", "and_system"), tuple(rows)),
    )  # fmt: skip


def _of_another(rsa: RsaSet) -> str:
    """Return by which comparison single systems are scored, where it is another than that of pairs."""
    return f", by {rsa.comparison}" if rsa.comparison not in ("", "pearson") else ""


def draw_residuals(rsa: RsaSet, *, key: str) -> Drawing:
    """Draw what each system predicts of what another leaves."""
    models = order_models(rsa.models)
    names = [m for m, _ in models]
    found = dict(rsa.residuals)
    figure = draw_heat_maps(
        _squares(rsa, found), names, [f for _, f in models], row_label="Control", column_label="Target (number)",
        bar_label="r with the residual",
    )  # fmt: skip
    rows = _rows(found, ("control", "target"), rsa, names)
    off = {k: e for k, e in found.items() if k[1] != k[2] and np.isfinite(e.mean)}
    best = max(off, key=lambda k: off[k].mean) if off else ("", "", "")
    n_above = sum(e.low > 0 for e in off.values())
    caption = (
        "Pearson's r (no unit) between what a control system (rows) leaves of a held-out run's RDM and what a target "
        "system (columns), fitted to the residuals of the other runs, predicts of it. Mean over "
        f"n = {count(len(rsa.subjects), 'subject')} and all runs; {n_above} of {len(off)} intervals off the diagonal "
        "lie "
        "above zero. A residual correlation is not a part of variance."
    )
    alt = (
        f"Heat maps of {len(names)} × {len(names)} residual correlations. Largest: {best[2]} beside {best[1]} in "
        f"{best[0]}."
    )
    return finish(
        figure, key, title="One system beside another: residual correlation", caption=caption, alt=alt,
        table=Table(key, "Residual correlations", _columns("control", "target"), tuple(rows)),
    )  # fmt: skip


def draw_comparisons(rsa: RsaSet, *, key: str) -> Drawing | None:
    """Draw every two systems' difference; numbers stand where it is significant over all pairs and streams."""
    if len(rsa.models) < 2 or not rsa.comparisons:
        return None
    return _draw_differences(
        rsa.comparisons,
        streams=rsa.streams,
        things=order_models(rsa.models),
        n_subjects=len(rsa.subjects),
        one="system",
        score=f"Score ({rsa.comparison or 'similarity'}, no unit)",
        random=rsa.random,
        title="Which system is more like the brain: paired comparisons",
        key=key,
    )


def draw_family_comparisons(partition: PartitionSet, *, key: str) -> Drawing | None:
    """Draw every two families' difference, by what the partition tells of each."""
    if len(partition.families) < 2 or not partition.comparisons:
        return None
    alone = any(row.get("quantity") == "alone" for row in partition.comparisons)
    more = "Which family explains more" if alone else "Which family explains more that no other does"
    return _draw_differences(
        partition.comparisons,
        streams=partition.streams,
        things=tuple((f, f) for f in order_families(partition.families)),
        n_subjects=len(partition.subjects),
        one="family",
        score=f"{'R² of the family alone' if alone else 'Unique variance (ΔR², no unit)'}",
        random=partition.random,
        title=partition.title(f"{more}: paired comparisons"),
        key=key,
    )


def _draw_differences(
    comparisons: Sequence[Options],
    *,
    streams: tuple[str, ...],
    things: tuple[tuple[str, str], ...],
    n_subjects: int,
    one: str,
    score: str,
    random: str,
    title: str,
    key: str,
) -> Drawing:
    """Draw the difference of every two things (name, family) in each stream.

    Parameters
    ----------
    comparisons : sequence of mapping
        stream, a, b, mean (of a less b), low, high, p, q, p_subjects, q_subjects, n_subjects.
    one : str
        What a thing is: "system" or "family".
    score : str
        What is compared, as the beginning of a sentence.
    random : str
        What varies at random.
    """
    names = [name for name, _ in things]
    place = {m: i for i, m in enumerate(names)}
    squares = {s: np.full((len(names), len(names)), np.nan) for s in streams}
    marks = {s: np.zeros((len(names), len(names)), bool) for s in streams}
    rows: list[tuple[Cell, ...]] = []
    n_clear = n_tested = 0
    for row in comparisons:
        stream, a, b = row["stream"], row["a"], row["b"]
        if stream not in squares or a not in place or b not in place or row["mean"] is None:
            continue
        clear = row["q"] is not None and row["q"] <= FDR_LEVEL
        n_clear += clear
        n_tested += row["q"] is not None
        squares[stream][place[a], place[b]], squares[stream][place[b], place[a]] = row["mean"], -row["mean"]
        marks[stream][place[a], place[b]] = marks[stream][place[b], place[a]] = clear
        rows.append((stream, a, b, *(row.get(n) for n in ("mean", *CHANCES, "n_subjects"))))
    figure = draw_heat_maps(
        squares, names, [f for _, f in things], row_label="", column_label=f"Less {one} (number)",
        bar_label="Difference", marks=marks,
    )  # fmt: skip
    columns = ("stream", "a", "b", "a_less_b", *CHANCES, "n_subjects")
    many = "families" if one == "family" else f"{one}s"
    caption = (
        f"{score} of the {one} at the row less that of the {one} at the column, mean over n = "
        f"{count(n_subjects, 'subject')}. "
    ) + (
        f"Numbers: where q ≤ {FDR_LEVEL:g}, two-sided, false discovery rate over "
        f"{'all ' * (n_tested > 1)}{count(n_tested, 'pair')} of {many} and streams; {n_clear} are. "
        f"{random.capitalize()} are random effects."
        if n_tested
        else "Differences were not tested."
    )
    alt = (
        f"Heat maps of differences between {len(names)} {many} in {len(streams)} streams; {n_clear} of "
        f"{len(rows)} are significant."
    )
    table = Table(key, f"Differences between {many}", tuple(map(Column, columns)), tuple(rows))
    return finish(figure, key, title=title, caption=caption, alt=alt, table=table)


def _squares(rsa: RsaSet, found: Mapping[tuple[str, str, str], Estimate]) -> dict[str, np.ndarray]:
    names = [m for m, _ in order_models(rsa.models)]
    nothing = Estimate(float("nan"))
    return {s: np.array([[found.get((s, a, b), nothing).mean for b in names] for a in names]) for s in rsa.streams}


def _rows(
    found: Mapping[tuple[str, str, str], Estimate],
    heads: tuple[str, str],
    rsa: RsaSet,
    names: list[str],
    *,
    triangle: bool = False,
) -> list[tuple[Cell, ...]]:
    return [
        (stream, a, b, found[stream, a, b].mean, found[stream, a, b].low, found[stream, a, b].high)
        for stream in rsa.streams
        for i, a in enumerate(names)
        for b in (names[i:] if triangle else names)
        if (stream, a, b) in found
    ]


def _columns(first: str, second: str) -> tuple[Column, ...]:
    return tuple(map(Column, ("stream", first, second, "r", "low", "high")))
