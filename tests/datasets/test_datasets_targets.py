"""Targets, ROIs and streams, from label images, tables and groupings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from brainsim.core.errors import AlignmentError
from brainsim.datasets.bids_write import write_labels, write_rows
from brainsim.datasets.groupings import list_groupings, match_streams, plain_roi_name, read_grouping
from brainsim.datasets.rois import read_rois
from brainsim.datasets.runs import Grid, same_grid
from brainsim.datasets.targets import choose_targets

AFFINE = np.diag([2.0, 2, 2, 1])
EARLY, VENTRAL = ["V1v", "V1d", "V2v", "V2d", "V3v", "V3d"], ["hV4", "VO1", "VO2", "PHC1", "PHC2"]
WANG = dict(enumerate([*EARLY, *VENTRAL, "TO2", "TO1", "LO2", "LO1", "V3B", "V3A"], start=1))


def grid_of(shape: tuple[int, ...], affine: np.ndarray = AFFINE) -> Grid:
    return Grid(shape, tuple(tuple(map(float, row)) for row in affine))


def write_wang(folder: Path) -> Path:
    labels = np.zeros((5, 5, 2), np.int16)
    labels.flat[: len(WANG)] = list(WANG)
    write_labels(folder / "wang.nii.gz", labels, affine=AFFINE, names=WANG)
    return folder / "wang.nii.gz"


def test_targets_are_the_labelled_voxels_in_array_order(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 3, (4, 3, 2))
    write_labels(tmp_path / "l.nii.gz", labels, affine=AFFINE, names={1: "early", 2: "dorsal"})

    targets = choose_targets(grid_of((4, 3, 2)), where="run", rois=read_rois(tmp_path / "l.nii.gz"))

    assert_array_equal(targets.ijk, np.argwhere(labels > 0))
    assert_array_equal(targets.membership, [labels[labels > 0] == 1, labels[labels > 0] == 2])
    assert targets.streams == {"early": ["early"], "dorsal": ["dorsal"]}
    assert targets.count_streams() == {"early": (labels == 1).sum(), "dorsal": (labels == 2).sum()}


def test_without_rois_there_is_one_called_all() -> None:
    varying = np.array([True, False, True, True])
    targets = choose_targets(grid_of((2, 2, 1)), where="run", varying=varying)
    assert targets.roi_names == ("all",)
    assert targets.streams == {"all": ["all"]}
    assert_array_equal(targets.places, [0, 2, 3])


def test_the_shipped_grouping_makes_four_streams_and_says_what_is_lacking(tmp_path: Path) -> None:
    rois = read_rois(write_wang(tmp_path))

    targets = choose_targets(grid_of((5, 5, 2)), where="run", rois=rois, grouping=read_grouping("wang2015-four"))

    assert targets.count_streams() == {"early": 6, "ventral": 5, "lateral": 4, "dorsal": 2}
    assert "IPS0" in targets.notes[0]


def test_a_label_image_of_known_names_is_told_its_grouping(tmp_path: Path) -> None:
    targets = choose_targets(grid_of((5, 5, 2)), where="run", rois=read_rois(write_wang(tmp_path)))
    assert list(targets.streams) == list(WANG.values())
    assert "--stream wang2015-four" in targets.notes[0]


@pytest.mark.parametrize("name", list_groupings())
def test_shipped_groupings_are_disjoint(name: str) -> None:
    rois = [roi for names in read_grouping(name).streams.values() for roi in names]
    assert len(rois) == len(set(rois))


@pytest.mark.parametrize(
    ("roi", "plain"),
    [("lh.V1v", "V1v"), ("V1v_R", "V1v"), ("L_V1_ROI", "V1"), ("LO1", "LO1"), ("R-LO2", "LO2"), ("left hV4", "hV4")],
)
def test_hemispheres_are_seen_through(roi: str, plain: str) -> None:
    assert plain_roi_name(roi) == plain


def test_a_stream_takes_both_hemispheres() -> None:
    names = ["L_V1_ROI", "R_V1_ROI", "L_MT_ROI"]
    streams, _ = match_streams(read_grouping({"early": ["V1"], "lateral": ["L_MT_ROI"]}), names)
    assert streams == {"early": names[:2], "lateral": names[2:]}


def test_groupings_are_read_from_toml_json_and_tsv(tmp_path: Path) -> None:
    wanted = {"early": ("V1", "V2"), "late": ("MT",)}
    (tmp_path / "a.toml").write_text('early = ["V1", "V2"]\nlate = ["MT"]\n')
    (tmp_path / "b.json").write_text(json.dumps({"streams": wanted}))
    write_rows(tmp_path / "c.tsv", ("stream", "roi"), [("early", "V1"), ("early", "V2"), ("late", "MT")])
    for path in sorted(tmp_path.iterdir()):
        assert read_grouping(path).streams == wanted


def test_lost_and_unnamed_rois_stay_and_are_told(tmp_path: Path) -> None:
    labels = np.zeros((3, 1, 1), np.int16)
    labels[:2, 0, 0] = 1, 7
    write_labels(tmp_path / "l.nii.gz", labels, affine=AFFINE, names={1: "early", 2: "lateral"})

    targets = choose_targets(grid_of((3, 1, 1)), where="run", rois=read_rois(tmp_path / "l.nii.gz"))

    assert targets.count_rois() == {"early": 1, "lateral": 0, "label-7": 1}
    assert any("label-7" in n or "(7)" in n for n in targets.notes)
    assert any("lateral" in n for n in targets.notes)


def test_labels_that_share_a_name_are_one_roi(tmp_path: Path) -> None:
    labels = np.array([1, 2, 0], np.int16).reshape(3, 1, 1)
    write_labels(tmp_path / "l.nii.gz", labels, affine=AFFINE, names={1: "V1", 2: "V1"})
    targets = choose_targets(grid_of((3, 1, 1)), where="run", rois=read_rois(tmp_path / "l.nii.gz"))
    assert targets.count_rois() == {"V1": 2}


def test_tables_take_one_roi_name_per_column(tmp_path: Path) -> None:
    write_rows(tmp_path / "r.tsv", ("roi",), [("V1",), ("n/a",), ("V2",), ("V1",)])
    rois = read_rois(tmp_path / "r.tsv")

    targets = choose_targets(Grid((4,)), where="run", rois=rois)

    assert_array_equal(targets.ijk, [[0], [2], [3]])
    assert_array_equal(targets.membership, [[1, 0, 1], [0, 1, 0]])
    with pytest.raises(AlignmentError, match=r"4 columns.*5 columns"):
        choose_targets(Grid((5,)), where="run", rois=rois)


def test_grids_are_the_same_up_to_the_rounding_of_headers() -> None:
    turned = AFFINE.copy()
    turned[0, 1] = 1e-3  # 0.1 mm at the far end of 100 voxels
    nearly = AFFINE + 1e-6
    nearly[3] = AFFINE[3]
    assert same_grid(grid_of((100, 100, 60)), grid_of((100, 100, 60), nearly))
    assert not same_grid(grid_of((100, 100, 60)), grid_of((100, 100, 60), turned))
