"""Repeats that are runs of their own are left out together: nothing that one taught is tested on the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fit_store import TR_S, smooth, write_activations, zscore

from brainsim.commands import encoding_data
from brainsim.commands.encoding_data import find_subjects, group_by_timing
from brainsim.commands.fit import fit
from brainsim.commands.partition import partition
from brainsim.commands.rsa import rsa
from brainsim.core.errors import InvalidValueError
from brainsim.core.runs import RunLayout, find_shared, folds_by_block, folds_by_group, folds_by_run, group_repeats
from brainsim.store import Store

N_TRS, N_TARGETS = 60, 20
# Each of four movies twice, the second time in another order.
MOVIES = (1, 2, 3, 4, 2, 1, 4, 3)
FEW: dict[str, Any] = {"dataset": "d", "alphas": (1.0, 10.0, 1000.0, 100000.0), "n_candidates": 6, "device": "cpu"}


def write_run(store: Store, run: int, movie: int, *, start_s: float = 0.0, n_trs: int = N_TRS, **told: Any) -> None:
    """Write responses that are locked to the movie, alike in every viewing, and that no model explains."""
    locked = smooth(np.random.default_rng([7, movie]), N_TRS, N_TARGETS)[:n_trs]
    noise = np.random.default_rng([8, run]).standard_normal(locked.shape)
    store.write(
        f"bold/d/sub-01/run-{run}",
        type="bold",
        key={"run": run},
        arrays={"values": zscore(locked + 0.5 * noise), "valid": np.ones(N_TARGETS, np.uint8)},
        attributes={
            "tr_s": TR_S,
            "start_s": start_s,
            "stimulus": f"movie{movie}",
            "run": f"run-{run}",
            "subject": "sub-01",
            "dataset": "d",
            **told,
        },
    )


def make_store(path: Path, movies: tuple[int, ...] = MOVIES) -> Store:
    store = Store(path, "a")
    write_activations(store, runs=sorted(set(movies)), n_trs=N_TRS)
    for run, movie in enumerate(movies, start=1):
        write_run(store, run, movie)
    store.write(
        "rois/d/sub-01",
        type="targets",
        key={},
        arrays={
            "ijk": np.arange(N_TARGETS, dtype=np.int32)[:, None],
            "membership": np.ones((1, N_TARGETS), np.uint8),
        },
        attributes={
            "roi_names": ["all"], "streams": {"all": ["all"]}, "n_targets": N_TARGETS, "affine": None,
            "volume_shape": None,
        },
    )  # fmt: skip
    return store


def test_a_model_that_explains_nothing_explains_nothing_where_movies_were_shown_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path / "s.zarr")
    fit("right", store=store.path, layer_curves=False, **FEW)
    node = Store(store.path).info("fits/right/d/sub-01")
    assert node.attributes["folds"] == ["run-1+run-6", "run-2+run-5", "run-3+run-8", "run-4+run-7"]
    assert [name for name, _ in node.attributes["runs"]] == [f"run-{k}" for k in (1, 6, 2, 5, 3, 8, 4, 7)]
    assert float(Store(store.path).read(node.path, "r2").mean()) < 0.01
    assert sum("left out together" in warning for warning in node.attributes["warnings"]) == 4
    # What leave-one-run-out makes of the same data where repeats are not minded.
    monkeypatch.setattr(encoding_data, "group_repeats", lambda shown: [[k] for k in range(len(shown))])
    fit("leaky", store=store.path, layer_curves=False, **FEW)
    assert float(Store(store.path).read("fits/leaky/d/sub-01", "r2").mean()) > 0.3


def test_a_partition_and_groups_of_runs_mind_them_too(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s.zarr")
    partition("p", store=store.path, cv="groups", n_folds=3, **FEW)
    folds = Store(store.path).info("partitions/p/d/sub-01").attributes["folds"]
    assert folds == ["run-1+run-6+run-2+run-5", "run-3+run-8", "run-4+run-7"]
    with pytest.raises(InvalidValueError, match="at most the 4 runs with different films"):
        fit("a", store=store.path, cv="groups", n_folds=5, **FEW)


def test_the_result_tells_what_was_held_out_together_in_its_key(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s.zarr", (1, 1, 2, 3))
    fit("a", store=store.path, layer_curves=False, **FEW)
    assert Store(store.path).info("fits/a/d/sub-01").key["held_together"] == [["run-1", "run-2"]]


def test_blocks_and_too_few_movies_are_refused(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s.zarr", (1, 2, 1, 2))
    with pytest.raises(InvalidValueError, match="run-1 and run-3 show the same") as refused:
        fit("a", store=store.path, cv="blocks", n_blocks=4, **FEW)
    assert "--repeats mean" in str(refused.value.hint)
    with pytest.raises(InvalidValueError, match=r"4 run\(s\) that show 2 different films") as refused:
        fit("a", store=store.path, **FEW)
    assert refused.value.hint == "ingest --repeats mean, and --cv blocks"
    assert not Store(store.path).nodes("fits")


def test_neighbours_that_share_some_seconds_of_a_film_are_told(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s.zarr", (1, 2, 3))
    for run in (1, 2, 3):
        store.delete(f"bold/d/sub-01/run-{run}")
        write_run(store, run, run, film="the film", film_start_s=(run - 1) * (N_TRS * TR_S - 16))
    (group,) = group_by_timing(find_subjects(store, "d"))
    assert group.fit_layout.together == ((0,), (1,), (2,))
    (told,) = encoding_data.tell_shared(group)
    assert "run-1 and run-2 (16 s), run-2 and run-3 (16 s)" in told
    assert "--overlap trim" in told


def test_viewings_that_differ_by_some_trs_are_repeats_as_well(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s.zarr", (1, 2, 3))
    write_run(store, 4, 2, start_s=3.0, n_trs=N_TRS - 4)
    (group,) = group_by_timing(find_subjects(store, "d"))
    assert [group.timing[k].run for unit in group.fit_layout.together for k in unit if len(unit) > 1] == [
        "run-2", "run-4",
    ]  # fmt: skip


def test_rsa_says_what_repeats_do_to_weights(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s.zarr", (1, 2, 3, 1))
    rsa("g", dataset="d", store=store.path)
    told = Store(store.path).info("rsa/g/d/sub-01").attributes["warnings"]
    assert any("run-1 and run-4 show the same seconds" in warning for warning in told)


def test_shared_seconds_and_folds_of_units() -> None:
    shown = [("a", 0.0, 10.0), ("b", 0.0, 10.0), ("a", 8.0, 18.0), ("b", 1.0, 12.0), ("a", 10.0, 18.0)]
    assert find_shared(shown) == [(0, 2, 2.0, False), (1, 3, 9.0, True), (2, 4, 8.0, True)]
    assert group_repeats(shown) == [[0], [1, 3], [2, 4]]
    layout = RunLayout(tuple("abcde"), (3, 4, 5, 6, 7), (0, 1, 1, 2, 2))
    assert [(fold.name, len(fold.test)) for fold in folds_by_run(layout)] == [("a", 3), ("b+c", 9), ("d+e", 13)]
    assert [fold.name for fold in folds_by_group(layout, n_folds=2)] == ["a+b+c", "d+e"]
    with pytest.raises(InvalidValueError, match="b and c show the same"):
        folds_by_block(layout, n_blocks=5, gap=0)
    for units in ((0, 1), (0, 1, 0, 2, 2)):
        with pytest.raises(InvalidValueError, match="one each, in order"):
            RunLayout(tuple("abcde"), (3, 4, 5, 6, 7), units)
