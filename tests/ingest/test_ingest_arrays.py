"""Arrays in the layouts of public data: HDF5 of one array per run, training and repeated test, betas and repeats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from brainsim.commands.ingest import ingest
from brainsim.core.errors import AlignmentError, BrainsimError, InputFileError, InvalidValueError
from brainsim.datasets.bids_write import write_rows
from brainsim.store import Store

N_TARGETS = 7


def make_repeats(n_repeats: int, n_trs: int, *, noise: float = 1.0, seed: int = 0) -> np.ndarray:
    """Return responses with a shared signal of variance 1, (n_repeats, n_trs, n_targets); the last target has none."""
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=(n_trs, N_TARGETS))
    signal[:, -1] = 0
    return (signal + noise * rng.normal(size=(n_repeats, n_trs, N_TARGETS))).astype(np.float32)


def explainable_by_hand(data: np.ndarray) -> np.ndarray:
    """Return explainable variance as the field's tutorials compute it: 1 - residual over total, freed of bias."""
    z = (data - data.mean(axis=1, keepdims=True)) / data.std(axis=1, keepdims=True)
    residual = (z - z.mean(axis=0)).var(axis=(0, 1))
    ev = 1 - residual
    return np.asarray(ev - (1 - ev) / (len(data) - 1))


def zscore(x: np.ndarray) -> np.ndarray:
    return np.asarray((x - x.mean(axis=0)) / x.std(axis=0))


def write_h5(path: Path, **arrays: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return path


def put(path: Path, **options: Any) -> tuple[Any, Store]:
    folder = path if path.is_dir() else path.parent
    summary = ingest(path, dataset="d", store=folder / "s.zarr", **{"high_pass_s": None, **options})
    return summary, Store(folder / "s.zarr")


def test_one_array_per_run_takes_its_name_as_label(tmp_path: Path) -> None:
    runs = {f"ses-00{k}_task-s01e0{k}a": make_repeats(1, 30, seed=k)[0] for k in (1, 2)}
    path = write_h5(tmp_path / "sub-03_task-friends_space-MNI_atlas-Schaefer_desc-s123456_bold.h5", **runs)

    summary, store = put(path, tr_s=1.49)

    assert (summary.format, summary.subjects, summary.n_runs) == ("table", ("sub-03",), 2)
    for name, values in runs.items():
        assert_allclose(store.read(f"bold/d/sub-03/{name}", "values"), zscore(values.astype(np.float64)), atol=1e-5)


def test_runs_that_outlast_the_movie_are_cut_where_the_map_says(tmp_path: Path) -> None:
    path = write_h5(tmp_path / "sub-03_bold.h5", a=make_repeats(1, 33)[0])
    write_rows(tmp_path / "map.tsv", ("run", "stimulus", "duration_s"), [("run-1", "s01e01a", 30 * 1.49)])
    summary, store = put(path, tr_s=1.49, stimulus_map=tmp_path / "map.tsv")
    assert store.info("bold/d/sub-03/run-1").arrays["values"][0] == (30, N_TARGETS)
    assert any("3 after it" in note for note in summary.warnings)


def test_shortclips_are_runs_by_their_onsets_and_one_averaged_test(tmp_path: Path) -> None:
    train, test = make_repeats(1, 90, seed=1)[0], make_repeats(10, 40, seed=2)
    path = write_h5(tmp_path / "S01_responses.hdf", Y_train=train, Y_test=test, run_onsets=np.array([0, 30, 60]))

    summary, store = put(path, subjects=["S01"])

    assert (summary.format, summary.tr_s) == ("gallant", 2.0)
    assert [row["run"] for row in summary.qc] == ["run-1", "run-2", "run-3", "test-1"]
    assert_allclose(store.read("bold/d/sub-S01/run-2", "values"), zscore(train[30:60].astype(np.float64)), atol=1e-5)
    mean = zscore(np.mean([zscore(one.astype(np.float64)) for one in test], axis=0))
    assert_allclose(store.read("bold/d/sub-S01/test-1", "values"), mean, atol=1e-5)
    node = "rois/d/sub-S01"
    assert_allclose(store.read(node, "explainable_variance"), explainable_by_hand(test.astype(float)), atol=1e-5)
    # Training runs are single viewings, the test a mean of ten: no ceiling fits the R2 of both.
    assert "ceiling" not in store.info(node).arrays
    assert "single viewings" in store.info(node).attributes["ceilings"]["explainable_variance"]


@pytest.mark.parametrize("is_turned", [False, True])
def test_vim2_is_read_in_either_order_of_axes(is_turned: bool, tmp_path: Path) -> None:
    train, test = make_repeats(1, 1200, seed=1)[0], make_repeats(10, 54, seed=2)
    rt, rva = train.T, np.moveaxis(test, 2, 0)  # (V, T), (V, repeats, T)
    if is_turned:
        rt, rva = rt.T, rva.T
    path = write_h5(tmp_path / "VoxelResponses_subject1.mat", rt=rt, rva=rva, rv=rva.mean(axis=1))

    summary, store = put(path)

    assert [row["run"] for row in summary.qc] == ["run-1", "run-2", "test-1"]
    assert_allclose(store.read("bold/d/sub-01/run-2", "values"), zscore(train[600:].astype(np.float64)), atol=1e-5)
    assert_allclose(
        store.read("rois/d/sub-01", "explainable_variance"), explainable_by_hand(test.astype(float)), atol=1e-5
    )


# ---------------------------------------------------------------- betas


def test_repeats_of_betas_are_averaged_and_their_ceiling_is_that_of_the_means(tmp_path: Path) -> None:
    data = make_repeats(4, 200, noise=1.5)
    np.save(tmp_path / "sub-01_run-1.npy", data)

    summary, store = put(tmp_path / "sub-01_run-1.npy", format="betas", high_pass_s=128.0)

    mean = zscore(np.mean([zscore(one.astype(np.float64)) for one in data], axis=0))
    assert_allclose(store.read("bold/d/sub-01/run-1_rep-1", "values"), mean, atol=1e-5)
    node = store.info("rois/d/sub-01")
    ceiling = store.read("rois/d/sub-01", "ceiling")[:-1]
    # planted: signal variance 1, noise variance 1.5 squared over 4 repeats
    assert_allclose(ceiling.mean(), 1 / (1 + 1.5**2 / 4), atol=0.03)
    assert "means of 4 viewings" in node.attributes["ceilings"]["ceiling"]
    assert summary.qc[0]["n_repeats"] == 4
    assert store.info("bold/d/sub-01/run-1_rep-1").attributes["cleaning"]["high_pass_s"] is None


def test_a_perfect_model_reaches_the_ceiling_and_not_more(tmp_path: Path) -> None:
    data = make_repeats(3, 4000, noise=1.0)
    signal = np.random.default_rng(0).normal(size=(4000, N_TARGETS))  # what make_repeats planted
    np.save(tmp_path / "b.npy", data)
    _, store = put(tmp_path / "b.npy", format="betas")
    values = store.read("bold/d/sub-01/run-1_rep-1", "values")[:, :-1]
    r = [np.corrcoef(values[:, v], signal[:, v])[0, 1] for v in range(N_TARGETS - 1)]
    assert_allclose(np.square(r), store.read("rois/d/sub-01", "ceiling")[:-1], atol=0.02)


def test_trials_are_put_in_order_of_stimuli(tmp_path: Path) -> None:
    data = make_repeats(2, 20)
    order = np.random.default_rng(3).permutation(40)
    stimulus = np.array([f"s{k:02d}" for k in range(20)] * 2)
    np.save(tmp_path / "b.npy", data.reshape(40, N_TARGETS)[order])
    write_rows(tmp_path / "b_trials.tsv", ("stimulus",), [(stimulus[k],) for k in order])

    _, store = put(tmp_path / "b.npy", format="betas", repeats="mean")

    shuffled = data.reshape(40, N_TARGETS)[order].astype(np.float64)
    trials = np.array([np.flatnonzero(stimulus[order] == name) for name in stimulus[:20]])  # (n_stimuli, n_repeats)
    mean = zscore(np.mean([zscore(shuffled[repeat]) for repeat in trials.T], axis=0))
    assert_allclose(store.read("bold/d/sub-01/run-1_rep-1", "values"), mean, atol=1e-5)


def test_targets_are_selected_by_what_repeats_share(tmp_path: Path) -> None:
    np.save(tmp_path / "b.npy", make_repeats(4, 400))
    summary, store = put(tmp_path / "b.npy", format="betas", select="explainable>0.2")
    assert summary.n_targets == {"sub-01": N_TARGETS - 1}
    assert_array_equal(store.read("rois/d/sub-01", "ijk")[:, 0], np.arange(N_TARGETS - 1))
    assert store.info("bold/d/sub-01/run-1_rep-1").arrays["values"][0] == (400, N_TARGETS - 1)
    assert any("6 of 7 targets" in note for note in summary.warnings)
    again, _ = put(tmp_path / "b.npy", format="betas", select="explainable>0.2")
    assert again.n_nodes_written == 0


def test_repeats_that_are_kept_are_runs_with_the_ceiling_of_single_viewings(tmp_path: Path) -> None:
    data = make_repeats(3, 300)
    np.save(tmp_path / "b.npy", data)
    summary, store = put(tmp_path / "b.npy", format="betas", repeats="keep")
    assert summary.n_runs == 3
    expected = explainable_by_hand(data.astype(float))
    found = store.read("rois/d/sub-01", "ceiling")
    assert_allclose(found[expected > 0], expected[expected > 0], atol=1e-5)
    assert "single viewings" in store.info("rois/d/sub-01").attributes["ceilings"]["ceiling"]


# ---------------------------------------------------------------- what is refused


def few_rows(folder: Path) -> dict[str, Any]:
    np.save(folder / "b.npy", np.zeros((9, 2)))
    write_rows(folder / "b_trials.tsv", ("stimulus",), [("a",)] * 8)
    return {"source": folder / "b.npy", "format": "betas"}


def not_finite(folder: Path) -> dict[str, Any]:
    np.save(folder / "b.npy", np.full((2, 9, 3), np.nan))
    return {"source": folder / "b.npy", "format": "betas"}


def scrubbed_betas(folder: Path) -> dict[str, Any]:
    np.save(folder / "b.npy", make_repeats(2, 9))
    return {"source": folder / "b.npy", "format": "betas", "scrub": "fd>0.5"}


def no_repeats_to_select_by(folder: Path) -> dict[str, Any]:
    np.save(folder / "run-1.npy", make_repeats(1, 20)[0])
    return {"source": folder / "run-1.npy", "tr_s": 2.0, "select": "reliability>0.1"}


def selected_to_nothing(folder: Path) -> dict[str, Any]:
    np.save(folder / "b.npy", make_repeats(2, 20))
    return {"source": folder / "b.npy", "format": "betas", "select": "explainable>0.999"}


def onsets_beyond(folder: Path) -> dict[str, Any]:
    arrays = {"Y_train": np.zeros((9, 3)), "Y_test": np.zeros((2, 5, 3)), "run_onsets": np.array([0, 9])}
    return {"source": write_h5(folder / "a.hdf", **arrays)}


def other_widths(folder: Path) -> dict[str, Any]:
    return {"source": write_h5(folder / "a.hdf", Y_train=np.zeros((9, 3)), Y_test=np.zeros((2, 5, 4)))}


@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        (few_rows, AlignmentError, "8 rows.*9"),
        (not_finite, InvalidValueError, "none of the 3 targets.*NaN"),
        (scrubbed_betas, InvalidValueError, "rows of betas are stimuli"),
        (no_repeats_to_select_by, InvalidValueError, "no stimulus twice"),
        (selected_to_nothing, InvalidValueError, "none of the 7 targets.*the highest"),
        (onsets_beyond, InputFileError, "run_onsets"),
        (other_widths, InputFileError, r"\(9, 3\).*\(2, 5, 4\)"),
    ],
)
def test_bad_arrays_are_one_sentence_with_a_hint_and_write_nothing(
    spoil: Any, error: type[BrainsimError], words: str, tmp_path: Path
) -> None:
    options = {"dataset": "d", "store": tmp_path / "s.zarr", **spoil(tmp_path)}
    with pytest.raises(error, match=words) as caught:
        ingest(options.pop("source"), **options)
    assert caught.value.hint
    if (tmp_path / "s.zarr").exists():
        assert Store(tmp_path / "s.zarr").nodes(complete=None) == []
