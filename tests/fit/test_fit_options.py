"""What fit and partition can be asked for beyond their defaults, through a small store."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
from fit_store import FEW

from brainsim.commands import encoding_tasks
from brainsim.commands.encoding_options import EncodingOptions, EncodingWords, read_seconds
from brainsim.commands.fit import fit
from brainsim.commands.partition import partition
from brainsim.commands.rsa import rsa
from brainsim.core.errors import BrainsimError, InvalidValueError, UnknownNameError
from brainsim.encoding.himalaya_gradient import search_with_hyper_gradient
from brainsim.store import Store


def arrays_of(store: Path, node: str) -> dict[str, np.ndarray]:
    opened = Store(store)
    return {name: opened.read(node, name) for name in opened.info(node).arrays}


def assert_same(a: dict[str, np.ndarray], b: dict[str, np.ndarray], *, atol: float = 0.0) -> None:
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_allclose(a[name], b[name], atol=atol, rtol=0, err_msg=name)


def test_shared_words_are_the_fields_of_the_options() -> None:
    hints, words = get_type_hints(EncodingOptions), get_type_hints(EncodingWords)
    assert list(words) == [field.name for field in fields(EncodingOptions)]
    assert words == hints
    for command in (fit, partition):
        shown = inspect.signature(command).parameters
        assert words.keys() <= shown.keys()
        assert all(f"\n{name} : " in (inspect.getdoc(command) or "") for name in shown)
    with pytest.raises(TypeError, match="fit\\(\\) got an unexpected keyword argument 'alpha'"):
        fit("a", dataset="tiny", alpha=1.0)  # type: ignore[call-arg]  # what is tested


@pytest.mark.parametrize("command", [fit, partition])
def test_number_of_workers_and_where_they_run_change_no_bit(store: Path, command: Callable[..., Any]) -> None:
    folder = f"{command.__name__}s"
    for name, where in {"one": {"n_workers": 1}, "three": {"n_workers": 3}}.items():
        command(name, store=store, n_targets_batch=5, **FEW, **where)
    for subject in ("sub-01", "sub-02", "sub-03"):
        one, three = (arrays_of(store, f"{folder}/{name}/tiny/{subject}") for name in ("one", "three"))
        assert_same(one, three)


def test_an_interrupted_run_goes_on_from_the_tasks_that_are_done(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {**FEW, "n_targets_batch": 5}
    partition("whole", store=store, **options)
    real, done = encoding_tasks.load_inputs, []

    def load(opened: Store, task: encoding_tasks.EncodingTask, folds: Any) -> Any:
        done.append(task.work)
        if len(done) == 5:
            raise KeyboardInterrupt
        return real(opened, task, folds)

    monkeypatch.setattr(encoding_tasks, "load_inputs", load)
    with pytest.raises(KeyboardInterrupt):
        partition("broken", store=store, **options)
    assert not Store(store).has("partitions/broken/tiny/group")
    assert Store(store).nodes("work")
    first = list(done)
    partition("broken", store=store, **options)
    assert first[3] not in done[5:]  # nothing that was done is done again
    assert not Store(store).nodes("work")
    for subject in ("sub-01", "sub-02", "sub-03"):
        assert_same(*(arrays_of(store, f"partitions/{name}/tiny/{subject}") for name in ("whole", "broken")))


def test_only_the_targets_of_chosen_rois_are_fitted(store: Path) -> None:
    options = {**FEW, "n_nulls": 19, "null_shift_s": 8.0}
    fit("all", store=store, **options)
    done = fit("some", store=store, **options, rois=("early",), n_targets_batch=4)
    whole, part = (arrays_of(store, f"fits/{name}/tiny/sub-01") for name in ("all", "some"))
    inside = np.arange(12) < 6
    np.testing.assert_allclose(part["r2"][inside], whole["r2"][inside], atol=1e-4)
    np.testing.assert_array_equal(part["p"][inside], whole["p"][inside])
    assert np.isnan(part["r2"][~inside]).all()
    # One task has no target at all that is fitted: it must not spoil the means of the others.
    np.testing.assert_allclose(part["roi_r2_folds"][0], whole["roi_r2_folds"][0], atol=1e-4)
    np.testing.assert_allclose(part["stream_null_joint"][0], whole["stream_null_joint"][0], atol=1e-4)
    assert part["roi_n_targets"].tolist() == [5, 0]
    summary = Store(store).info("fits/some/tiny/sub-01").attributes["summary"]
    assert summary["masked"] == {"not finite": 1, "outside the chosen ROIs": 6}
    assert any("1 of 12 targets were masked: 1 not finite" in warning for warning in done.warnings)
    with pytest.raises(UnknownNameError, match="V9"):
        fit("none", store=store, **FEW, rois=("V9",))


def test_p_values_of_streams_without_a_fitted_target_are_not_told(store: Path) -> None:
    done = partition("a", store=store, **FEW, n_nulls=19, null_shift_s=8.0, rois=("V1",), subjects=("01", "02"))
    by_stream = {row["stream"]: row for row in done.joint}
    assert 0 < by_stream["early"]["p_null"] <= 1
    assert 0 <= by_stream["early"]["share_q_below_0.05"] <= 1
    assert "p_null" not in by_stream["ventral"]
    assert by_stream["ventral"]["p"] is None
    assert by_stream["ventral"]["mean"] is None
    nodes = arrays_of(store, "partitions/a/tiny/sub-02")
    assert np.isfinite(nodes["unique_p"][:, :4]).all()
    assert np.isnan(nodes["unique_p"][:, 4:]).all()
    finite = nodes["joint_p"][:4]
    assert (nodes["joint_q"][:4] >= finite).all()
    rows = Store(store).info("partitions/a/tiny/sub-02").attributes["roi_rows"]
    assert {row["roi"] for row in rows} == {"V1"}
    assert all(row["low"] <= row["mean"] <= row["high"] for row in rows)
    assert all(0 < row["p_null"] <= 1 for row in rows if row["quantity"] in ("joint", "unique"))
    found = {(row["quantity"], row["family"]): row["mean"] for row in rows}
    parts = [mean for (quantity, _), mean in found.items() if quantity in ("unique", "shared")]
    assert sum(parts) == pytest.approx(found["joint", None], abs=1e-6)
    shapley = [mean for (quantity, _), mean in found.items() if quantity == "shapley"]
    assert sum(shapley) == pytest.approx(found["joint", None], abs=1e-6)


def test_time_that_runs_out_is_told_in_the_result(store: Path) -> None:
    done = partition("a", store=store, **{**FEW, "n_candidates": 200}, time_budget="0.001s")
    attributes = Store(store).info("partitions/a/tiny/sub-01").attributes
    assert attributes["stopped"]["n_candidates_done"] < attributes["stopped"]["n_candidates"] == 200
    assert any("time budget ended the search" in warning for warning in done.warnings)
    assert np.isfinite(arrays_of(store, "partitions/a/tiny/sub-02")["parts"]).all()
    # One mixture for each of 7 subsets is the least, however long it takes; then there is no time to refine.
    assert attributes["overrun"]["n_least"] == 7
    assert any("so that at least 7 are scored" in warning for warning in done.warnings)
    refined = partition("b", store=store, **{**FEW, "n_candidates": 7}, time_budget="0.001s", refine=2)
    assert any("0 of 2 rounds of refinement" in warning for warning in refined.warnings)
    assert refined.search["gain"] is None


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("1h30m", 5400), ("1.5 h", 5400), ("2min", 120)]
)
def test_times_are_read_with_their_units(text: str, seconds: float) -> None:
    assert read_seconds("--time-budget", text) == seconds


def test_single_level_and_groups_of_runs(store: Path) -> None:
    nested = fit("nested", store=store, **FEW)
    single = fit("single", store=store, **FEW, nested=False)
    assert any("too good" in warning for warning in single.warnings)
    better = arrays_of(store, "fits/single/tiny/sub-02")["r2"] - arrays_of(store, "fits/nested/tiny/sub-02")["r2"]
    assert better.min() > -1e-4
    assert (
        nested.n_folds,
        fit("groups", store=store, **FEW, cv="groups", n_folds=3, subjects=("01", "02")).n_folds,
    ) == (5, 3)
    assert Store(store).info("fits/groups/tiny/sub-01").attributes["folds"][0] == "run-1+run-2"


@pytest.mark.parametrize(
    ("subsets", "held"),
    [
        ("all", {"unique", "parts", "shapley", "product"}),
        ("leave-one-out", {"unique", "parts", "product"}),
        ("singles", {"product"}),
    ],
)
def test_arrays_are_those_that_the_subsets_allow(store: Path, subsets: str, held: set[str]) -> None:
    done = partition("a", store=store, **FEW, subsets=subsets, subjects=("02",))
    node = "partitions/a/tiny/sub-02"
    arrays, attributes = arrays_of(store, node), Store(store).info(node).attributes
    assert held <= arrays.keys()
    assert not ({"unique", "parts", "shapley", "product"} - held) & arrays.keys()
    assert len(attributes["subsets"]) == len(arrays["subset_r2"]) == done.n_subsets
    assert len(attributes["parts"]) == len(arrays.get("parts", ()))
    assert {row["quantity"] for row in done.rows} == {"unique" if subsets != "singles" else "alone"}


def test_methods_tell_what_they_promise(store: Path) -> None:
    for method, quantity in {"shapley": "shapley", "product-measure": "product"}.items():
        rows = partition("a", store=store, **FEW, method=method).rows
        assert {row["quantity"] for row in rows} == {quantity}
    with pytest.raises(InvalidValueError, match="every subset") as error:
        partition("b", store=store, **FEW, method="shapley", subsets="leave-one-out")
    assert error.value.hint == "--subsets all"


def test_refinement_never_lowers_the_validation_score_and_tells_its_gain(store: Path) -> None:
    fit("a", store=store, **FEW, refine=2)
    gain = Store(store).info("fits/a/tiny/sub-02").attributes["gain"]
    assert gain["inner_after"] >= gain["inner_before"]
    assert gain["n_candidates"] > 0


def test_hyper_gradient_reaches_the_scores_of_the_search(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(search_with_hyper_gradient.__kwdefaults__, "max_iter", 15)
    options = {**FEW, "alphas": None, "layer_curves": False, "subjects": ("03",)}
    fit("search", store=store, **options)
    descent = {name: value for name, value in options.items() if name != "n_candidates"}
    fit("gradient", store=store, **descent, solver="himalaya-hyper-gradient")
    search, gradient = (arrays_of(store, f"fits/{name}/tiny/sub-03") for name in ("search", "gradient"))
    assert float((gradient["r2"] - search["r2"]).mean()) > -0.02
    np.testing.assert_allclose(gradient["split_r2"].sum(axis=0), gradient["r2"], atol=1e-3)
    np.testing.assert_allclose(gradient["weight"].sum(axis=0), 1, atol=1e-5)


@pytest.mark.parametrize("command", [fit, partition])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"time_budget": "soon"}, "--time-budget"),
        ({"time_budget": "0s"}, "--time-budget"),
        ({"n_nulls": -1}, "--nulls"),
        ({"n_nulls": 5, "null_shift_s": 60.0}, "shortest run has 40 TRs"),
        ({"refine": -1}, "--refine"),
        ({"n_workers": -1}, "--n-workers"),
        ({"cluster": "thread"}, "--cluster"),
        ({"cluster": "slurm", "cluster_options": ("colour=red",)}, "colour=red"),
        ({"cluster": "threads", "cluster_options": ("queue=short",)}, "queue"),
        ({"cv": "groups", "n_folds": 9}, "--folds"),
        ({"cv": "groups", "n_folds": 2}, "at least 3"),
        ({"cv": "groups", "gap": 3}, "--gap"),
        ({"n_folds": 5}, "--folds"),
        ({"n_blocks": 8}, "--blocks"),
        ({"concentration": ()}, "--concentration"),
        ({"backend": "jax"}, "--backend"),
        ({"backend": "numpy"}, "--backend"),
        ({"solver": "himalaya-random-search", "n_nulls": 5}, "--nulls"),
        ({"solver": "himalaya-random-search", "nested": False}, "--no-nested"),
    ],
)
def test_impossible_options_are_one_sentence_and_leave_nothing(
    made: Path, command: Callable[..., Any], change: dict[str, Any], said: str
) -> None:
    with pytest.raises(BrainsimError) as error:
        command("a", store=made, **{**FEW, **change})
    assert said in error.value.message
    assert "\n" not in error.value.message
    assert not Store(made).nodes(f"{command.__name__}s")
    assert not Store(made).nodes("work")


def test_nulls_that_runs_are_too_short_for_are_told_before_the_search(made: Path) -> None:
    with pytest.raises(InvalidValueError, match="shortest run has 40 TRs"):
        fit("a", store=made, **FEW, n_nulls=5, null_shift_s=60.0, dry_run=True)


def test_himalayas_search_has_no_price_of_entering(store: Path) -> None:
    with pytest.raises(InvalidValueError, match="--entry-z is 2"):
        partition("a", store=store, **FEW, solver="himalaya-random-search", entry_z=2.0)
    few = {**FEW, "alphas": (10.0, 100.0), "subjects": ("02",), "models": ("cnn", "mae")}
    partition("peer", store=store, **few, solver="himalaya-random-search")
    assert Store(store).info("partitions/peer/tiny/sub-02").attributes["options"]["entry_z"] == 0
    partition("ours", store=store, **few)
    assert Store(store).info("partitions/ours/tiny/sub-02").attributes["options"]["entry_z"] == 2


@pytest.mark.parametrize("change", [{"n_candidates": 5}, {"concentration": (1.0,)}])
def test_a_descent_draws_no_mixtures(made: Path, change: dict[str, Any]) -> None:
    few = {name: value for name, value in FEW.items() if name != "n_candidates"}
    with pytest.raises(InvalidValueError, match="draws no mixtures"):
        fit("a", store=made, **{**few, **change}, solver="himalaya-hyper-gradient")
    done = fit("a", store=made, **few, solver="himalaya-hyper-gradient", dry_run=True)
    assert done.n_candidates == 0


def test_hyper_gradient_and_unknown_subsets_are_no_partition(made: Path) -> None:
    with pytest.raises(InvalidValueError, match="hyper-gradient"):
        partition("a", store=made, **FEW, solver="himalaya-hyper-gradient")
    with pytest.raises(InvalidValueError, match="max-order"):
        partition("a", store=made, **FEW, subsets="max-order=0")
    with pytest.raises(InvalidValueError, match="pairs"):
        partition("a", store=made, **FEW, subsets="pairs")


def test_betas_have_no_delay_and_no_response(store: Path) -> None:
    opened = Store(store, mode="a")
    for run in range(1, 6):
        node = f"bold/tiny/sub-01/run-{run}"
        arrays = {name: opened.read(node, name) for name in opened.info(node).arrays}
        attributes = {**opened.info(node).attributes, "format": "betas"}
        opened.write(node, type="bold", key={"betas": run}, arrays=arrays, attributes=attributes, overwrite=True)
    for command in (fit, partition):
        with pytest.raises(InvalidValueError, match="rows of sub-01 are stimuli") as refused:
            command("a", store=store, **FEW)
        assert refused.value.hint == "--delays 0 --cv blocks"
    with pytest.raises(InvalidValueError, match="rows of sub-01 are stimuli"):
        rsa("a", dataset="tiny", store=store)
    done = fit("a", store=store, subjects=("01",), layer_curves=False, **{**FEW, "delays": (0,)})
    assert done.n_nodes_written == 1
