"""Which targets cost a task: those that can be fitted, wherever they lie among the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fit_store import FEW, write_subject

from brainsim.commands.encoding_data import find_subjects, group_by_timing
from brainsim.commands.encoding_targets import pack_parts
from brainsim.commands.fit import fit
from brainsim.core.errors import InvalidValueError
from brainsim.store import Store


def ranges(path: Path, *, rois: tuple[str, ...] = (), n: int) -> list[list[tuple[str, int, int]]]:
    opened = Store(path)
    (group, *_) = group_by_timing(find_subjects(opened, "tiny", ("01", "02")))
    packs = pack_parts(opened, group, rois=rois, n_targets_batch=n)
    return [[(part.subject, part.start, part.stop) for part in parts] for parts in packs]


def test_a_pack_holds_a_batch_of_targets_that_can_be_fitted_and_none_is_left_out(made: Path) -> None:
    # sub-01 has 12 targets of which the fourth is masked, sub-02 has 9; the first half of each is V1.
    assert ranges(made, n=100) == [[("sub-01", 0, 12), ("sub-02", 0, 9)]]
    assert ranges(made, n=11) == [[("sub-01", 0, 12)], [("sub-02", 0, 9)]]
    assert ranges(made, n=5) == [
        [("sub-01", 0, 6)],
        [("sub-01", 6, 11)],
        [("sub-01", 11, 12)],
        [("sub-02", 0, 5)],
        [("sub-02", 5, 9)],
    ]
    assert ranges(made, rois=("V1",), n=9) == [[("sub-01", 0, 12), ("sub-02", 0, 9)]]
    assert ranges(made, rois=("V4",), n=5) == [[("sub-01", 0, 11)], [("sub-01", 11, 12)], [("sub-02", 0, 9)]]


def test_a_subject_without_any_target_is_told_before_anything_is_searched(store: Path) -> None:
    write_subject(Store(store, mode="a"), "sub-04", runs=range(1, 6), n_trs=40, n_targets=6, masked=range(3))
    with pytest.raises(InvalidValueError, match="none of the 6 targets of rois/tiny/sub-04 has a score") as error:
        fit("a", store=store, **FEW, rois=("V1",))
    assert "3 not finite, 3 outside the chosen ROIs" in error.value.message
    assert not Store(store).nodes("fits")
    assert not Store(store).nodes("work")
    assert fit("a", store=store, **FEW, rois=("V4",)).n_nodes_written == 4


def test_a_batch_that_turns_out_to_be_constant_searches_next_to_nothing(store: Path) -> None:
    opened = Store(store, mode="a")
    node = opened.info("bold/tiny/sub-01/run-2")
    values = opened.read(node.path, "values")
    values[:, 6:] = 0
    arrays = {"values": values, "valid": opened.read(node.path, "valid")}
    opened.write(node.path, type="bold", key={"flat": 1}, arrays=arrays, attributes=node.attributes, overwrite=True)
    one = {**FEW, "subjects": ("01",), "layer_curves": False}
    fit("alone", store=store, **one, rois=("V1",))
    fit("both", store=store, **one, n_targets_batch=5)
    alone, both = (Store(store).info(f"fits/{name}/tiny/sub-01").attributes["summary"] for name in ("alone", "both"))
    assert both["masked"] == {"not finite": 1, "constant in a test fold": 6}
    assert both["n_factored"] == alone["n_factored"]
    assert both["edge_share"] == alone["edge_share"]
    r2 = [Store(store).read(f"fits/{name}/tiny/sub-01", "r2") for name in ("alone", "both")]
    np.testing.assert_allclose(r2[1], r2[0], atol=1e-6)


def test_failed_factorisations_are_the_reason_that_is_told(store: Path) -> None:
    with pytest.raises(InvalidValueError, match="without any score") as error:
        fit("a", store=store, **{**FEW, "alphas": (1e-18, 1e-17, 1e-16)}, rois=("V1",), subjects=("02",))
    assert "5 outside the chosen ROIs, 4 without any score" in error.value.message
    assert "--alphas" in str(error.value.hint)


def test_candidates_that_fail_at_some_alphas_take_no_part_there(store: Path) -> None:
    alphas = (1e-18, 1e-12, 1e-3, 1.0)
    done = fit("a", store=store, **{**FEW, "alphas": alphas, "n_candidates": 4}, subjects=("02",))
    assert np.isfinite(Store(store).read("fits/a/tiny/sub-02", "r2")).all()
    assert done.search["n_float64"] > 0
    assert Store(store).info("fits/a/tiny/sub-02").attributes["summary"]["n_failed"] == 4
    assert any("4 candidates" in warning and "took no part there" in warning for warning in done.warnings)


def test_choices_at_an_end_of_the_grid_are_warned_about(store: Path) -> None:
    low = {**FEW, "alphas": (1e4, 1e5, 1e6), "subjects": ("02",)}
    done = fit("a", store=store, **low)
    assert done.search["edge_share"] > 0.5
    assert any("an alpha at an edge of the grid; widen it with --alphas" in warning for warning in done.warnings)
    # A grid of two is all edges: there is nothing to say.
    done = fit("b", store=store, **{**low, "alphas": (1.0, 10.0)})
    assert done.search["edge_share"] is None
    assert not any("edge" in warning for warning in done.warnings)
