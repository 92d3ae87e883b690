"""Turn answers to declared claims into two tables, and what was declared into sentences."""

from __future__ import annotations

import math
from typing import Any

from brainsim.report.content import ClaimsSet
from brainsim.report.tables import Cell, Column, Table, format_interval

LONG_TABLE = 30


def tell_declaration(c: ClaimsSet) -> tuple[str, ...]:
    """Return what was declared before the data were looked at, and how words of claims were read."""
    rules = c.rules
    points = list(c.warnings)
    if rules:
        shares = ", ".join(
            f"{measure}: little is below {share:g} of what can be reached, the smallest effect of interest is "
            f"{rules['smallest'][measure]:g} of it"
            for measure, share in rules["little"].items()
            if any(row["measure"] == measure for row in c.answers)
        )
        correction = NAMES.get(rules["correction"], rules["correction"])
        points.append(
            f"Declared before: level {rules['alpha']:g} after {correction} over "
            f"all claims; {shares}. Subjects are random effects (sign flips); all parts of a claim must hold."
        )
    points += [f"{claim}: {reading}" for claim, reading in c.readings.items() if reading]
    return tuple(points)


NAMES = {
    "holm": "Holm's correction",
    "bh": "Benjamini and Hochberg's correction",
    "by": "Benjamini and Yekutieli's correction",
}


def tabulate_answers(c: ClaimsSet, *, key: str) -> Table:
    """Return one row per measure and claim."""
    columns = (
        Column("measure", "Measure"),
        Column("claim", "Claim", where="tsv"),
        Column("says", "Claim"),
        Column("answer", "Answer"),
        Column("p_for", where="tsv"),
        Column("q_for", "q for"),
        Column("p_against", where="tsv"),
        Column("q_against", "q against"),
        Column("n_subjects", "Subjects"),
        Column("source", "From"),
        Column("reason", "Why not tested", where="both" if any(row["reason"] for row in c.answers) else "tsv"),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            row["measure"], row["claim"], row["says"], row["answer"], row["p_for"], row["q_for"], row["p_against"],
            row["q_against"], row["n_subjects"], row["source"], row["reason"] or None,
        )
        for row in c.answers
    ]  # fmt: skip
    note = (
        "Supported: everything the claim says is shown. Not supported: something it says is shown to fail, by more "
        "than the smallest effect of interest. Undecided: the data show neither. q: corrected over all claims."
    )
    return Table(key, "Answers to the claims", columns, tuple(rows), note)


def tabulate_tests(c: ClaimsSet, *, key: str) -> Table:
    """Return one row per part of a claim and stream."""
    columns = (
        Column("measure", "Measure"),
        Column("claim", "Claim"),
        Column("part", "Part"),
        Column("stream", "Stream"),
        Column("estimate", "Estimate"),
        Column("interval", "95 % interval", where="page"),
        Column("low", where="tsv"),
        Column("high", where="tsv"),
        Column("reachable", "Reachable"),
        Column("bound", "Bound"),
        Column("p_for", "p for"),
        Column("p_against", "p against"),
        Column("n_subjects", "Subjects"),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            row["measure"], row["claim"], row["part"], row["stream"], row["estimate"],
            format_interval(_number(row["low"]), _number(row["high"])), row["low"], row["high"], row["reachable"],
            row["bound"], row["p_for"], row["p_against"], row["n_subjects"],
        )
        for row in c.tests
    ]  # fmt: skip
    note = (
        "R² (encoding) or similarity of RDMs (geometry), mean over subjects. Bound: what counts as little, or the "
        "smallest effect of interest. p for: of the claimed sign; p against: of an effect beyond the bound."
    )
    return Table(key, "The tests behind the answers", columns, tuple(rows), note, folded=len(rows) > LONG_TABLE)


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
