"""The tables of a partition's group: tests over subjects and runs, corrected over families and streams."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fit_store import FEW
from scipy.stats import false_discovery_control

from brainsim import partition
from brainsim.commands.partition_group import group_tables
from brainsim.stats.sign_flip import sign_flip_p
from brainsim.stats.significance import crossed_p
from brainsim.store import Store
from brainsim.variance.lattice import SubsetPlan, subset_plan

FAMILIES = ("static", "flow", "mae")
STREAMS = ("early", "dorsal")
N_RUNS = 6


def cohort(
    plan: SubsetPlan, n_subjects: int = 8
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, tuple[str, ...]]]:
    """Return subjects' arrays in which static adds 0.05 in early, flow 0.03 in dorsal, and mae nothing."""
    rng = np.random.default_rng(2)
    gain = {"early": (0.05, 0.0, 0.0), "dorsal": (0.0, 0.03, 0.0)}
    masks = [[bool(mask >> f & 1) for f in range(3)] for mask in plan.masks]
    arrays, streams = {}, {}
    for subject in range(n_subjects):
        name = f"sub-{subject + 1:02d}"
        own = STREAMS if subject else ("dorsal",)  # the first has no early stream
        scores = np.empty((len(own), len(masks), N_RUNS))
        for row, stream in enumerate(own):
            part = np.array(gain[stream])[:, None] + 0.008 * rng.standard_normal((3, N_RUNS))
            scores[row] = 0.1 + np.array(masks, float) @ part
        arrays[name] = {
            "stream_subset_r2": scores,
            "stream_product": np.tile([0.02, 0.01, 0.0], (len(own), 1)),
            "stream_n_targets": np.full(len(own), 50),
        }
        streams[name] = own
    return arrays, streams


@pytest.fixture(scope="module")
def plan() -> SubsetPlan:
    return subset_plan(3, "all")


@pytest.fixture(scope="module")
def tables(plan: SubsetPlan) -> dict[str, Any]:
    arrays, streams = cohort(plan)
    return group_tables(FAMILIES, plan, arrays, streams)


def test_what_was_planted_is_found_and_nothing_else(tables: dict[str, Any]) -> None:
    unique = {(row["stream"], row["family"]): row for row in tables["rows"] if row["quantity"] == "unique"}
    found = {cell for cell, row in unique.items() if row["q"] <= 0.05}
    assert found == {("early", "static"), ("dorsal", "flow")}
    assert unique["early", "static"]["n_subjects"] == 7
    assert unique["dorsal", "flow"]["p_subjects"] == 2.0**-8  # all of eight
    differ = {(row["stream"], row["a"], row["b"]) for row in tables["comparisons"] if row["q"] <= 0.05}
    assert differ == {
        ("early", "static", "flow"), ("early", "static", "mae"),
        ("dorsal", "static", "flow"), ("dorsal", "flow", "mae"),
    }  # fmt: skip
    assert {row["quantity"] for row in tables["comparisons"]} == {"unique"}
    assert all(row["q"] <= 0.05 for row in tables["joint"])


def test_p_and_q_are_those_of_their_definition(plan: SubsetPlan, tables: dict[str, Any]) -> None:
    arrays, _ = cohort(plan)
    without = plan.row(0b101)  # static and mae
    own = np.stack([a["stream_subset_r2"][-1, -1] - a["stream_subset_r2"][-1, without] for a in arrays.values()])
    row = next(r for r in tables["rows"] if (r["stream"], r["family"], r["quantity"]) == ("dorsal", "flow", "unique"))
    assert row["p"] == pytest.approx(crossed_p(own))
    assert row["p_subjects"] == pytest.approx(float(sign_flip_p(own.mean(axis=1))))
    assert row["mean"] == pytest.approx(own.mean())
    for quantity in ("unique", "shapley", "alone"):  # over families and streams of one quantity
        rows = [r for r in tables["rows"] if r["quantity"] == quantity]
        assert len(rows) == 6
        for p, q in (("p", "q"), ("p_subjects", "q_subjects")):
            np.testing.assert_allclose([r[q] for r in rows], false_discovery_control([r[p] for r in rows]))
    pairs = tables["comparisons"]
    np.testing.assert_allclose([r["q"] for r in pairs], false_discovery_control([r["p"] for r in pairs]))


def test_shares_of_one_score_are_not_tested_and_singles_are_compared_alone() -> None:
    plan = subset_plan(3, "singles")
    arrays, streams = cohort(plan)
    tables = group_tables(FAMILIES, plan, arrays, streams)
    assert {row["quantity"] for row in tables["rows"]} == {"alone", "product"}
    assert all("p" not in row for row in tables["rows"] if row["quantity"] == "product")
    assert {row["quantity"] for row in tables["comparisons"]} == {"alone"}


def test_one_subject_has_no_p_over_subjects_and_runs_with_one_run(plan: SubsetPlan) -> None:
    arrays, streams = cohort(plan, n_subjects=2)
    (name, own) = list(arrays.items())[1]
    one_run = {**own, "stream_subset_r2": own["stream_subset_r2"][..., :1]}
    tables = group_tables(FAMILIES, plan, {name: one_run}, {name: streams[name]})
    assert all(row["p"] is None and row["q"] is None and row["low"] is None for row in tables["joint"])
    assert all(row["p"] is None for row in tables["comparisons"])


def test_tables_of_an_older_form_are_made_anew(store: Path) -> None:
    partition("a", store=store, **FEW, subjects=("01", "02"))
    path = "partitions/a/tiny/group"
    opened = Store(store, mode="a")
    info = opened.info(path)
    old = {name: value for name, value in info.attributes.items() if name not in ("tables", "comparisons")}
    opened.write(path, type="partition-group", key=info.key, arrays={}, attributes=old, overwrite=True)
    again = partition("a", store=store, **FEW, subjects=("01", "02"))
    assert again.n_nodes_written == 0
    assert Store(store).info(path).attributes["comparisons"] == info.attributes["comparisons"]
