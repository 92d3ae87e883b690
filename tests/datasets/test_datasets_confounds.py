"""Confounds by strategy, in today's names and in old ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from nilearn.interfaces.fmriprep import load_confounds
from numpy.testing import assert_allclose

from brainsim.core.errors import InvalidValueError
from brainsim.datasets.bids_write import write_bold, write_confounds
from brainsim.datasets.confounds import MOTION, parse_strategy, read_confounds

N_TRS = 25


def make_columns() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    columns = {name: rng.normal(size=N_TRS) for name in MOTION}
    for name in MOTION:
        derivative = np.r_[np.nan, np.diff(columns[name])]
        columns[f"{name}_derivative1"] = derivative
        columns[f"{name}_power2"] = columns[name] ** 2
        columns[f"{name}_derivative1_power2"] = derivative**2
    return columns | {f"a_comp_cor_{k:02d}": rng.normal(size=N_TRS) for k in range(8)}


def read(path: Path, words: str) -> tuple[tuple[str, ...], np.ndarray]:
    found = read_confounds(path, parse_strategy(words), n_trs=N_TRS, where="run")
    return found.names, found.values


def test_motion24_equals_nilearn_on_an_fmriprep_name(tmp_path: Path) -> None:
    image = tmp_path / "sub-01_task-x_space-T1w_desc-preproc_bold.nii.gz"
    write_bold(image, np.zeros((2, 2, 2, N_TRS), np.int16), affine=np.eye(4), tr_s=2.0)
    table = tmp_path / "sub-01_task-x_desc-confounds_timeseries.tsv"
    write_confounds(table, make_columns())
    table.with_suffix(".json").write_text("{}")

    names, values = read(table, "motion24")

    peer, _ = load_confounds(str(image), strategy=["motion"], motion="full", demean=False)
    assert sorted(names) == sorted(peer.columns)
    ours = dict(zip(names, values.T, strict=True))
    for name in peer.columns:
        assert_allclose(ours[name][1:], peer[name].to_numpy()[1:], rtol=1e-6)
        assert ours[name][0] == pytest.approx(0 if "derivative" in name else peer[name][0])


def test_motion24_is_derived_where_the_table_has_six_columns(tmp_path: Path) -> None:
    columns = make_columns()
    write_confounds(tmp_path / "six.tsv", {name: columns[name] for name in MOTION})
    write_confounds(tmp_path / "all.tsv", columns)

    names, derived = read(tmp_path / "six.tsv", "motion24")

    assert names == read(tmp_path / "all.tsv", "motion24")[0]
    assert_allclose(derived, read(tmp_path / "all.tsv", "motion24")[1], atol=1e-7)


def test_old_names_are_understood(tmp_path: Path) -> None:
    columns = make_columns()
    old = dict(zip(("X", "Y", "Z", "RotX", "RotY", "RotZ"), (columns[name] for name in MOTION), strict=True))
    old |= {f"aCompCor{k:02d}": columns[f"a_comp_cor_{k:02d}"] for k in range(6)}
    old["FramewiseDisplacement"] = np.r_[np.nan, np.ones(N_TRS - 1)]
    write_confounds(tmp_path / "old.tsv", old)

    found = read_confounds(tmp_path / "old.tsv", ("motion6", "acompcor5"), n_trs=N_TRS, where="run")

    assert found.names == (*MOTION, *(f"a_comp_cor_{k:02d}" for k in range(5)))
    assert_allclose(found.values[:, 0], columns["trans_x"], rtol=1e-6)
    assert found.displacement_mm is not None
    assert np.nanmean(found.displacement_mm) == 1


def test_components_of_the_combined_mask_come_first(tmp_path: Path) -> None:
    write_confounds(tmp_path / "c.tsv", make_columns())
    masks = {f"a_comp_cor_{k:02d}": {"Mask": "CSF" if k < 2 else "combined"} for k in range(8)}
    (tmp_path / "c.json").write_text(json.dumps(masks))

    assert read(tmp_path / "c.tsv", "acompcor5")[0] == tuple(f"a_comp_cor_{k:02d}" for k in range(2, 7))


def test_columns_may_be_patterns_and_missing_first_values_are_told(tmp_path: Path) -> None:
    write_confounds(tmp_path / "c.tsv", make_columns())

    found = read_confounds(tmp_path / "c.tsv", parse_strategy("rot_?, trans_x_derivative1"), n_trs=N_TRS, where="run")

    assert found.names == ("rot_x", "rot_y", "rot_z", "trans_x_derivative1")
    assert found.filled == ("trans_x_derivative1",)
    assert found.values[0, 3] == 0


def test_none_stands_alone(tmp_path: Path) -> None:
    write_confounds(tmp_path / "c.tsv", make_columns())
    assert read(tmp_path / "c.tsv", "none")[1].shape == (N_TRS, 0)
    with pytest.raises(InvalidValueError, match="stands alone"):
        read(tmp_path / "c.tsv", "none,motion6")
