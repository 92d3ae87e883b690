"""fit and partition through a small store: reuse, refusal, masked targets, subjects alone and together, bad inputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fit_store import FEW, write_activations, write_subject

from brainsim.commands.fit import fit
from brainsim.commands.partition import partition
from brainsim.core.errors import BrainsimError, InvalidValueError, NumericalError
from brainsim.store import Store


def read(store: Path, node: str, array: str) -> np.ndarray:
    return Store(store).read(node, array)


@pytest.mark.parametrize("command", [fit, partition])
def test_second_call_does_nothing_and_other_options_are_refused(store: Path, command: Callable[..., Any]) -> None:
    first = command("a", store=store, **FEW)
    assert (first.n_nodes_written, first.n_nodes_reused) == (3, 0)
    again = command("a", store=store, **FEW)
    assert (again.n_nodes_written, again.n_nodes_reused) == (0, 3)
    kernels = len(Store(store).nodes("kernels"))
    with pytest.raises(InvalidValueError, match="other options") as error:
        command("a", store=store, **{**FEW, "delays": (3, 4)})
    assert error.value.hint is not None
    assert len(Store(store).nodes("kernels")) == kernels
    assert command("a", store=store, **{**FEW, "delays": (3, 4)}, overwrite=True).n_nodes_written == 3
    assert command("b", store=store, **FEW, dry_run=True).n_nodes_written == 0
    assert not Store(store).nodes("fits/b")


def test_masked_targets_stay_nan_and_are_counted(store: Path) -> None:
    done = fit("a", store=store, **FEW)
    r2 = read(store, "fits/a/tiny/sub-01", "r2")
    np.testing.assert_array_equal(np.isnan(r2), np.arange(12) == 3)
    assert np.isnan(read(store, "fits/a/tiny/sub-01", "layer_r2")[:, 3]).all()
    assert (read(store, "fits/a/tiny/sub-01", "alpha_index")[:, 3] == -1).all()
    assert any("1 of 12 targets were masked" in w for w in done.warnings)
    split = read(store, "fits/a/tiny/sub-01", "split_r2")
    np.testing.assert_allclose(split.sum(axis=0), r2, atol=1e-5)
    assert np.nanmean(r2) > 0.1


@pytest.mark.parametrize("command", [fit, partition])
def test_subjects_score_alike_alone_and_together(store: Path, command: Callable[..., Any]) -> None:
    """sub-03 has other runs than the first two: kernels of its own."""
    command("all", store=store, **FEW)
    room = "fits" if command is fit else "partitions"
    for subject in ("sub-01", "sub-02", "sub-03"):
        command(subject, store=store, subjects=(subject,), **FEW)
        for array in ("r2", "split_r2", "layer_r2") if command is fit else ("subset_r2", "parts", "product"):
            together = read(store, f"{room}/all/tiny/{subject}", array)
            np.testing.assert_allclose(read(store, f"{room}/{subject}/tiny/{subject}", array), together, atol=1e-5)


def test_small_batches_of_targets_change_nothing(store: Path) -> None:
    options = {**FEW, "subjects": ("01",), "layer_curves": False}
    fit("whole", store=store, **options)
    fit("batches", store=store, n_targets_batch=5, **options)
    whole, batches = (read(store, f"fits/{name}/tiny/sub-01", "r2") for name in ("whole", "batches"))
    np.testing.assert_allclose(batches, whole, atol=1e-5)


def test_himalayas_solver_gives_the_same_scores(store: Path) -> None:
    fit("ours", store=store, subjects=("02",), layer_curves=False, **FEW)
    fit("theirs", store=store, subjects=("02",), layer_curves=False, solver="himalaya-random-search", **FEW)
    ours, theirs = (read(store, f"fits/{n}/tiny/sub-02", "r2") for n in ("ours", "theirs"))
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_a_single_run_is_scored_over_blocks_with_a_gap(store: Path) -> None:
    options = {**FEW, "dataset": "single", "delays": (2,), "cv": "blocks", "n_blocks": 4, "gap": 3}
    done = fit("blocks", store=store, **options)
    assert done.n_folds == 4
    assert np.isfinite(read(store, "fits/blocks/single/sub-01", "r2")).all()


def test_parts_sum_to_the_joint_score(store: Path) -> None:
    done = partition("p", store=store, **FEW)
    assert done.n_subsets == 7
    node = "partitions/p/tiny/sub-02"
    joint = read(store, node, "subset_r2")[-1]
    for array in ("parts", "shapley", "product"):
        np.testing.assert_allclose(read(store, node, array).sum(axis=0), joint, atol=1e-4)
    np.testing.assert_array_equal(read(store, node, "unique"), read(store, node, "parts")[:3])
    unique = dict(zip(done.families, read(store, node, "unique").mean(axis=1), strict=True))
    assert unique["static"] > 0.05 < unique["dynamic"]
    assert abs(unique["masked"]) < 0.05


def test_a_subject_more_under_the_same_name_is_refused_before_any_work(store: Path) -> None:
    partition("p", store=store, subjects=("01",), **FEW)
    with pytest.raises(InvalidValueError, match="partitions/p/tiny/group"):
        partition("p", store=store, **FEW)
    assert not Store(store).has("partitions/p/tiny/sub-02")
    done = partition("p", store=store, overwrite=True, **FEW)
    assert (done.n_nodes_written, done.n_nodes_reused) == (2, 1)


def test_numpy_options_are_welcome(store: Path) -> None:
    options = {**FEW, "alphas": np.logspace(0, 3, 4), "delays": np.arange(1, 5)}
    fit("numpy", store=store, **options)
    assert fit("numpy", store=store, **FEW).n_nodes_reused == 3


def test_subject_without_a_valid_target_is_named(store: Path) -> None:
    opened = Store(store, mode="a")
    write_subject(opened, "sub-01", runs=range(1, 6), n_trs=40, n_targets=4, dataset="dead", masked=range(4))
    for command in (fit, partition):
        with pytest.raises(BrainsimError, match="dead/sub-01") as error:
            command("a", store=store, **{**FEW, "dataset": "dead"})
        assert error.value.hint is not None


def test_target_that_is_constant_in_a_block_is_masked(store: Path) -> None:
    opened = Store(store, mode="a")
    write_subject(opened, "sub-01", runs=[1], n_trs=40, n_targets=4, dataset="flat", seed=5)
    node = opened.info("bold/flat/sub-01/run-1")
    values = opened.read(node.path, "values")
    values[10:20, 2] = 0.5
    arrays = {"values": values, "valid": np.ones(4, np.uint8)}
    opened.write(node.path, type="bold", key={"flat": 1}, arrays=arrays, attributes=node.attributes, overwrite=True)
    options = {**FEW, "dataset": "flat", "delays": (2,), "cv": "blocks", "n_blocks": 4}
    done = fit("a", store=store, **options)
    np.testing.assert_array_equal(np.isnan(read(store, "fits/a/flat/sub-01", "r2")), [0, 0, 1, 0])
    assert any("1 of 4 targets were masked" in w for w in done.warnings)


def test_features_that_are_not_finite_are_named_with_their_layer(store: Path) -> None:
    opened = Store(store, mode="a")
    node = opened.info("activations/cnn@00000001/layer1/movie2")
    arrays = {name: opened.read(node.path, name) for name in node.arrays}
    arrays["values"][3, 3] = np.nan
    opened.write(
        node.path, type="activations", key={"nan": 1}, arrays=arrays, attributes=node.attributes, overwrite=True
    )
    with pytest.raises(NumericalError, match="cnn/layer1"):
        fit("a", store=store, **FEW)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"dataset": "tinny"}, "tiny"),
    ({"dataset": "*"}, "dataset"),
    ({"subjects": ("07",)}, "07"),
    ({"models": ("resnet*",)}, "resnet"),
    ({"models": ()}, "models"),
    ({"delays": ()}, "--delays"),
    ({"delays": (1, 1)}, "--delays"),
    ({"delays": (-1,)}, "--delays"),
    ({"delays": (1.5,)}, "--delays"),
    ({"delays": (40,)}, "--delays"),
    ({"alphas": ()}, "--alphas"),
    ({"alphas": (10.0, 1.0)}, "--alphas"),
    ({"alphas": (0.0, 1.0)}, "--alphas"),
    ({"alphas": (1.0, float("nan"))}, "--alphas"),
    ({"bands": "voxel"}, "--bands"),
    ({"cv": "shuffle"}, "--cv"),
    ({"cv": "blocks", "n_blocks": 2}, "--blocks"),
    ({"cv": "blocks", "gap": -1}, "--gap"),
    ({"cv": "blocks", "gap": 90}, "--gap"),
    ({"dataset": "single"}, "--cv blocks"),
    ({"scaling": "robust"}, "--scaling"),
    ({"n_candidates": -1}, "--n-candidates"),
    ({"n_targets_batch": 0}, "--n-targets-batch"),
    ({"concentration": (0.0,)}, "concentration"),
    ({"device": "tpu"}, "--device"),
    ({"device": "cpu:x"}, "--device"),
]


@pytest.mark.parametrize("command", [fit, partition])
@pytest.mark.parametrize(("change", "said"), BAD)
def test_bad_inputs_are_one_sentence_and_leave_nothing(
    made: Path, command: Callable[..., Any], change: dict[str, Any], said: str
) -> None:
    with pytest.raises(BrainsimError) as error:
        command("bad", store=made, **{**FEW, **change})
    assert said in str(error.value)
    assert "\n" not in error.value.message
    assert error.value.message.endswith((".", "?"))
    assert not Store(made).nodes("kernels")
    assert not Store(made).nodes("fits") + Store(made).nodes("partitions")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"families": {"one": ("cnn",)}}, "at least two"),
        ({"families": {}}, "families"),
        ({"families": {"one": ("cnn",), "two": ("c*", "mae")}}, "two families"),
        ({"families": {"one": ("cnn",), "two": ("nothing",)}}, "nothing"),
        ({"models": ("mae",)}, "at least two"),
    ],
)
def test_impossible_families_are_named(made: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(BrainsimError, match=said):
        partition("bad", store=made, **{**FEW, **change})


def test_wrong_names_and_solvers_are_named(made: Path) -> None:
    with pytest.raises(InvalidValueError, match="the fit's name"):
        fit("a/b", store=made, **FEW)
    with pytest.raises(InvalidValueError, match="--solver"):
        fit("a", store=made, solver="ridge", **FEW)
    with pytest.raises(BrainsimError, match="no store"):
        fit("a", store=made.parent / "absent", **FEW)


def test_a_model_stored_with_two_sets_of_options_must_be_chosen(store: Path) -> None:
    write_activations(Store(store, mode="a"), runs=range(1, 6), n_trs=40, twin=True)
    with pytest.raises(InvalidValueError, match="one must be chosen") as error:
        fit("a", store=store, **FEW)
    assert "--models cnn@00000001" in str(error.value)
    assert fit("a", store=store, models=("cnn@00000002",), **FEW).bands == ("cnn",)
