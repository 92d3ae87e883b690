"""Two planted cohorts through rsa and claims: of geometry too the five claims hold in one and fail in the other."""

from __future__ import annotations

from pathlib import Path

import pytest
from planted_geometry import plant_geometry

from brainsim.commands.claims import claims
from brainsim.commands.rsa import rsa

SEEDS = range(5)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("cohort", "right"), [("hold", "supported"), ("fail", "not supported")])
def test_the_five_claims_are_answered_rightly_from_geometry(tmp_path: Path, cohort: str, right: str, seed: int) -> None:
    store = plant_geometry(tmp_path / "s.zarr", cohort, seed)
    found = rsa("geometry", dataset="d", store=store, device="cpu")
    assert {row["stream"] for row in found.ceilings} == {"early", "ventral", "lateral", "dorsal"}
    summary = claims("study", dataset="d", store=store, measures=["geometry"])
    told = [(t["claim"], t["part"], t["stream"], t["estimate"], t["bound"], t["p_for"]) for t in summary.tests]
    assert {row["claim"]: row["answer"] for row in summary.answers} == dict.fromkeys(
        [row["claim"] for row in summary.answers], right
    ), told
    assert len(summary.answers) == 5
    assert {row["source"] for row in summary.answers} == {"rsa geometry"}
    assert all(row["n_subjects"] == 10 for row in summary.answers)
