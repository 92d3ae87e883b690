"""Correlation between subjects: what was planted, a slow way, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.testing import assert_allclose

from brainsim.commands.ingest import ingest
from brainsim.datasets.ceilings import leave_one_out_correlations
from brainsim.store import Store


def make_subjects(n_subjects: int, n_trs: int, n_targets: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n_trs, n_targets)) + rng.normal(size=(n_subjects, n_trs, n_targets))


def test_it_is_the_correlation_with_the_mean_of_the_others() -> None:
    run = make_subjects(4, 200, 3, 0)
    z = (run - run.mean(axis=1, keepdims=True)) / run.std(axis=1, keepdims=True)
    expected = [
        [np.corrcoef(z[s, :, v], np.delete(z[:, :, v], s, axis=0).mean(axis=0))[0, 1] for v in range(3)]
        for s in range(4)
    ]
    assert_allclose(leave_one_out_correlations([run]), expected, atol=1e-6)


def test_a_subject_without_values_leaves_the_others_alone() -> None:
    run = make_subjects(4, 100, 2, 0)
    alone = leave_one_out_correlations([run[1:]])
    run[0] = np.nan
    found = leave_one_out_correlations([run])
    assert np.isnan(found[0]).all()
    assert_allclose(found[1:], alone, atol=1e-6)


def test_it_is_stored_where_all_saw_the_same_and_told_where_not(tmp_path: Path) -> None:
    runs = [make_subjects(3, 60, 5, seed) for seed in (1, 2)]
    for s in range(3):
        for r, run in enumerate(runs, start=1):
            np.save(tmp_path / f"sub-0{s + 1}_run-{r}.npy", run[s])
    options = {"dataset": "d", "store": tmp_path / "s.zarr", "tr_s": 2.0, "high_pass_s": None}

    summary = ingest(tmp_path, between_subjects=True, **options)

    assert not summary.warnings
    store = Store(tmp_path / "s.zarr")
    found = store.read("ceilings/d/between-subjects", "between_subjects_r")
    assert_allclose(found, leave_one_out_correlations(runs), atol=1e-5)
    two = ingest(tmp_path, between_subjects=True, subjects=["01", "02"], **options)
    assert "2 subjects" in two.warnings[0]
