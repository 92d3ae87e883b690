"""Which volumes count, when they were measured, and what is regressed out of them: beside nilearn where it can."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from ingest_trees import AFFINE, SHAPE, TR_S, make_confounds, make_labels, make_values, run_stem, write_tree
from nilearn.image import resample_to_img, smooth_img
from nilearn.interfaces.fmriprep import load_confounds
from nilearn.masking import apply_mask
from nilearn.signal import clean
from numpy.testing import assert_allclose, assert_array_equal

from brainsim.commands.encoding_data import find_subjects, group_by_timing
from brainsim.commands.ingest import ingest
from brainsim.core.errors import AlignmentError, BrainsimError, InputFileError, InvalidValueError, UnknownNameError
from brainsim.datasets.bids_write import write_bold, write_confounds, write_labels, write_rows, write_sidecar
from brainsim.datasets.images import grid_of_targets, write_images
from brainsim.datasets.layouts import find_layout
from brainsim.store import Store

N_TRS = 40
NODE = "bold/known/sub-01/run-1"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "tree")


def put(tree: Path, **options: Any) -> tuple[Any, Store]:
    defaults = {"dataset": "known", "store": tree.parent / "s.zarr", "rois": tree / "streams_dseg.nii.gz"}
    summary = ingest(tree, **{**defaults, **options})
    return summary, Store(tree.parent / "s.zarr")


def raw_of(tree: Path, run: int = 1) -> np.ndarray:
    mask = nib.Nifti1Image((make_labels() > 0).astype(np.uint8), AFFINE)
    values: np.ndarray = apply_mask(f"{run_stem(tree, run=run)}_bold.nii.gz", mask).astype(np.float64)
    return values


def to_population(z: np.ndarray) -> np.ndarray:
    """Return nilearn's z-scores, which divide by n - 1, over n."""
    return np.asarray(z * np.sqrt(len(z) / (len(z) - 1)))


# ---------------------------------------------------------------- cleaning


def test_detrending_equals_nilearn(tree: Path) -> None:
    _, store = put(tree, detrend=True, high_pass_s=None, confounds="motion6")
    table = make_confounds(11)
    motion = np.stack([table[name] for name in list(table)[:6]], axis=1)
    peer = clean(raw_of(tree), detrend=True, standardize="zscore_sample", confounds=motion, filter=False)
    assert_allclose(store.read(NODE, "values"), to_population(peer), atol=1e-5)


def test_smoothing_equals_nilearn(tree: Path) -> None:
    _, store = put(tree, smooth_mm=5.0, high_pass_s=None)
    image = smooth_img(f"{run_stem(tree)}_bold.nii.gz", 5.0)
    raw = image.get_fdata()[make_labels() > 0].T
    assert_allclose(store.read(NODE, "values"), (raw - raw.mean(axis=0)) / raw.std(axis=0), atol=1e-4)


def test_scrubbing_equals_nilearns_sample_mask_on_the_trs_that_stay(tree: Path) -> None:
    table = make_confounds(11)
    motion = np.stack([table[name] for name in list(table)[:6]], axis=1)
    stays = np.nan_to_num(table["framewise_displacement"]) <= 0.8
    assert 20 < stays.sum() < 36

    summary, store = put(tree, scrub="fd>0.8", confounds="motion6")

    values, kept = store.read(NODE, "values"), store.read(NODE, "kept").astype(bool)
    assert_array_equal(kept, stays)
    assert values.shape == (N_TRS, 36)  # they keep their place
    peer = clean(
        raw_of(tree),
        sample_mask=np.flatnonzero(stays),
        detrend=False,
        standardize="zscore_sample",
        filter="cosine",
        high_pass=1 / 128,
        t_r=TR_S,
        confounds=motion,
    )
    assert_allclose(values[kept], to_population(peer), atol=1e-5)
    assert (values[~kept] == 0).all()
    assert summary.qc[0]["n_scrubbed"] == N_TRS - stays.sum()


def test_columns_of_spikes_scrub_as_load_confounds_does(tree: Path) -> None:
    table = make_confounds(11)
    for k, row in enumerate((3, 17)):
        table[f"motion_outlier{k:02d}"] = (np.arange(N_TRS) == row).astype(float)
    write_confounds(Path(f"{run_stem(tree)}_desc-confounds_timeseries.tsv"), table)
    _, store = put(tree, scrub="motion_outlier*,fd>0.9")
    displacement = np.nan_to_num(table["framewise_displacement"])
    expected = {3, 17, *np.flatnonzero(displacement > 0.9)}
    assert set(np.flatnonzero(store.read(NODE, "kept") == 0)) == expected


def test_load_confounds_gives_the_same_regressors_by_name(tmp_path: Path) -> None:
    stem = tmp_path / "tree/sub-01/func/sub-01_task-movie_run-1"
    write_bold(Path(f"{stem}_space-T1w_desc-preproc_bold.nii.gz"), make_values(1), affine=AFFINE, tr_s=TR_S)
    table = Path(f"{stem}_desc-confounds_timeseries.tsv")
    write_confounds(table, make_confounds(1))
    table.with_suffix(".json").write_text("{}")
    peer, _ = load_confounds(
        f"{stem}_space-T1w_desc-preproc_bold.nii.gz", strategy=["motion"], motion="basic", demean=False
    )
    ingest(tmp_path / "tree", dataset="known", store=tmp_path / "s.zarr", confounds="motion6", high_pass_s=None)
    raw = make_values(1).reshape(-1, N_TRS).T.astype(np.float64)
    X = np.c_[peer.to_numpy(), np.ones(N_TRS)]
    residual = raw - X @ np.linalg.lstsq(X, raw, rcond=None)[0]
    found = Store(tmp_path / "s.zarr").read(NODE, "values")
    assert_allclose(found, residual / residual.std(axis=0), atol=1e-4)


# ---------------------------------------------------------------- time


def test_events_say_what_was_shown_and_when(tree: Path) -> None:
    rows = [(2.0, 6.0, "n/a"), (8.0, 30.0, "stimuli/film-a.mp4"), (38.0, 20.0, "stimuli/film-a.mp4")]
    for run in (1, 2, 3):
        write_rows(Path(f"{run_stem(tree, run=run)}_events.tsv"), ("onset", "duration", "stim_file"), rows)
    summary, store = put(tree, events="stim_file", repeats="keep")
    a = store.info(NODE).attributes
    # Volumes 0 to 3 came before it; the 25 of 8 to 58 s are those that count.
    assert (a["stimulus"], a["start_s"], a["volumes"]) == ("film-a", 0.0, [4, 29])
    assert any("4 volumes before film-a and 11 after it" in note for note in summary.warnings)


@pytest.mark.parametrize(("start_time_s", "shift_s"), [(1.0, 0.0), (0.0, -1.0), (1.75, 0.75)])
def test_start_time_shifts_volumes_from_the_middle_of_their_tr(tree: Path, start_time_s: float, shift_s: float) -> None:
    for run in (1, 2, 3):
        write_sidecar(Path(f"{run_stem(tree, run=run)}_bold.json"), tr_s=TR_S, task="movie", StartTime=start_time_s)
    _, store = put(tree)
    assert store.info(NODE).attributes["start_s"] == pytest.approx(shift_s)


def test_seconds_that_two_runs_show_are_divided_between_them(tree: Path) -> None:
    # Runs of 80 s from a film that begin every 64 s: 16 s, eight TRs, lie in both neighbours.
    columns = ("run", "stimulus", "film", "film_start_s")
    write_rows(tree / "map.tsv", columns, [(f"run-{k + 1}", f"part-{k + 1}", "film", 64.0 * k) for k in range(3)])

    summary, store = put(tree, stimulus_map=tree / "map.tsv")

    spans = {}
    for run in (1, 2, 3):
        a = store.info(f"bold/known/sub-01/run-{run}").attributes
        begin_s = 64.0 * (run - 1) + a["start_s"]
        spans[run] = (begin_s, begin_s + TR_S * (a["volumes"][1] - a["volumes"][0]))
    assert spans == {1: (0.0, 72.0), 2: (72.0, 136.0), 3: (136.0, 208.0)}
    assert any("run-1 and run-2 (16 s)" in note for note in summary.warnings)
    kept, _ = put(tree, stimulus_map=tree / "map.tsv", overlap="keep", dataset="whole")
    assert [row["n_trs"] for row in kept.qc] == [40, 40, 40]


def test_viewings_of_the_same_are_one_run_and_give_a_ceiling(tree: Path) -> None:
    write_rows(tree / "map.tsv", ("run", "stimulus"), [("run-1", "a"), ("run-2", "a"), ("run-3", "b")])
    summary, store = put(tree, stimulus_map=tree / "map.tsv")
    assert [row["run"] for row in summary.qc] == ["run-1", "run-3"]
    info = store.info("rois/known/sub-01")
    assert {"explainable_variance", "reliability"} <= set(info.arrays)
    assert "ceiling" not in info.arrays  # run-3 was seen once
    assert store.info(NODE).attributes["repeats"] == [f"{run_stem(tree, run=2)}_bold.nii.gz"]


def test_viewings_that_stay_runs_are_told_and_left_out_together(tree: Path) -> None:
    rows = [("run-1", "a", 0.0), ("run-2", "a", 0.0), ("run-3", "b", 0.0)]
    write_rows(tree / "map.tsv", ("run", "stimulus", "offset_s"), rows)
    kept, store = put(tree, stimulus_map=tree / "map.tsv", repeats="keep")
    assert any("run-1, run-2 show the same seconds of stimulus a; they stay runs" in w for w in kept.warnings)
    (group,) = group_by_timing(find_subjects(store, "known"))
    assert group.fit_layout.together == ((0, 1), (2,))
    # Of other lengths or times viewings cannot be averaged, which must not go unsaid.
    write_rows(tree / "map.tsv", ("run", "stimulus", "offset_s"), [rows[0], ("run-2", "a", 0.5), rows[2]])
    told, _ = put(tree, stimulus_map=tree / "map.tsv", dataset="shifted")
    assert any("are not averaged, because their times differ (40 TRs from 0 s; 40 TRs from 0.5 s)" in w
               for w in told.warnings)  # fmt: skip


# ---------------------------------------------------------------- studyforrest


def write_studyforrest(tree: Path, *, derivative: bool = False, spoil: int | None = None) -> Path:
    """Write all eight runs of one subject with their real lengths, of two voxels."""
    known = find_layout("studyforrest")
    assert known is not None
    for run, n_volumes in enumerate(known.n_volumes, start=1):
        name = f"sub-01/ses-movie/func/sub-01_ses-movie_task-movie_run-{run}_bold.nii.gz"
        if derivative:
            name = f"sub-01/in_bold3Tp2/sub-01_task-avmovie_run-{run}_bold.nii.gz"
        values = np.random.default_rng(run).normal(1000, 20, (2, 1, 1, n_volumes - (run == spoil)))
        write_bold(tree / name, values.astype(np.int16), affine=AFFINE, tr_s=2.0)
    other = tree / "sub-01/ses-localizer/func/sub-01_ses-localizer_task-objectcategories_run-1_bold.nii.gz"
    write_bold(other, np.ones((2, 1, 1, 5), np.int16), affine=AFFINE, tr_s=2.0)
    return tree


@pytest.mark.parametrize("derivative", [False, True])
def test_studyforrest_is_known_by_name(derivative: bool, tmp_path: Path) -> None:
    tree = write_studyforrest(tmp_path / "ds000113", derivative=derivative)

    summary = ingest(tree, dataset="studyforrest", store=tmp_path / "s.zarr")

    assert (summary.n_runs, summary.tr_s) == (8, 2.0)
    known = find_layout("studyforrest")
    assert known is not None
    # What is left of the film lies end to end, no second of it in two runs, none lost but for less than a TR each.
    ends = []
    for row, film_start_s, n_volumes in zip(summary.qc, known.film_start_s, known.n_volumes, strict=True):
        begin_s = film_start_s + row["start_s"]
        ends.append((begin_s, begin_s + 2.0 * row["n_trs"]))
        assert n_volumes - row["n_trs"] in (4, 5, 8, 9)
    gaps = [later[0] - earlier[1] for earlier, later in pairwise(ends)]
    assert min(gaps) >= -1e-6
    assert max(gaps) < 4.0


def test_a_run_of_another_length_is_no_studyforrest(tmp_path: Path) -> None:
    tree = write_studyforrest(tmp_path / "ds000113", spoil=3)
    with pytest.raises(AlignmentError, match=r"438 volumes.*437"):
        ingest(tree, dataset="studyforrest", store=tmp_path / "s.zarr")


# ---------------------------------------------------------------- space


def test_labels_on_another_grid_are_resampled_if_asked_as_nilearn_does_it(tree: Path) -> None:
    fine = np.diag([1.5, 1.5, 1.75, 1.0])
    fine[:3, 3] = AFFINE[:3, 3] + [-10, -0.4, -0.3]  # centres inside the outermost ones: beyond, SciPy gives 0
    labels = np.random.default_rng(0).integers(0, 4, (14, 12, 8)).astype(np.int16)
    write_labels(tree / "fine.nii.gz", labels, affine=fine, names={1: "a", 2: "b", 3: "c"})
    with pytest.raises(AlignmentError):
        put(tree, rois=tree / "fine.nii.gz")

    summary, store = put(tree, rois=tree / "fine.nii.gz", resample=True)

    peer = resample_to_img(
        str(tree / "fine.nii.gz"),
        nib.Nifti1Image(np.zeros(SHAPE), AFFINE),
        interpolation="nearest",
        force_resample=True,
        copy_header=True,
    ).get_fdata()
    assert_array_equal(store.read("rois/known/sub-01", "ijk"), np.argwhere(peer > 0))
    assert_array_equal(store.read("rois/known/sub-01", "membership"), [peer[peer > 0] == k for k in (1, 2, 3)])
    assert any("was resampled" in note and "%" in note for note in summary.warnings)


def test_stored_runs_go_back_to_the_voxels_of_the_file(tree: Path, tmp_path: Path) -> None:
    _, store = put(tree, standardize="none", high_pass_s=None)
    info = store.info("rois/known/sub-01")
    values = store.read(NODE, "values")

    (path,) = write_images(
        tmp_path / "out/run-1",
        values,
        grid_of_targets(info.attributes),
        store.read("rois/known/sub-01", "ijk"),
        tr_s=TR_S,
    )

    back, source = nib.load(path), nib.load(f"{run_stem(tree)}_bold.nii.gz")
    inside = make_labels() > 0
    raw = source.get_fdata()
    assert_allclose(back.affine, source.affine)
    assert back.header.get_zooms() == source.header.get_zooms()
    assert_allclose(back.get_fdata()[inside], (raw - raw.mean(axis=-1, keepdims=True))[inside], atol=1e-3)
    again = ingest(
        path, dataset="again", store=tmp_path / "s2.zarr", rois=tree / "streams_dseg.nii.gz", high_pass_s=None
    )
    assert again.n_targets == {"sub-01": 36}


# ---------------------------------------------------------------- what is refused


def events(tree: Path, *rows: tuple[Any, ...]) -> None:
    for run in (1, 2, 3):
        write_rows(Path(f"{run_stem(tree, run=run)}_events.tsv"), ("onset", "duration", "stim_file"), rows)


def map_of(tree: Path, column: str, value: Any) -> None:
    rows = [(f"run-{run}", f"film-{run}", value) for run in (1, 2, 3)]
    write_rows(tree / "map.tsv", ("run", "stimulus", column), rows)


def start_time(tree: Path, value: Any) -> None:
    write_sidecar(Path(f"{run_stem(tree)}_bold.json"), tr_s=TR_S, task="movie", StartTime=value)


BAD: list[tuple[str, Any, dict[str, Any], type[BrainsimError], str]] = [
    ("no events", lambda t: None, {"events": "stim_file"}, InputFileError, "no events table"),
    ("two films", lambda t: events(t, (0, 9, "a"), (9, 9, "b")), {"events": "stim_file"}, AlignmentError, "2 stimuli"),
    ("a pause", lambda t: events(t, (0, 9, "a"), (20, 9, "a")), {"events": "stim_file"}, AlignmentError, "9 s.*20 s"),
    ("no column", lambda t: events(t, (0, 9, "a")), {"events": "movie"}, InputFileError, "no column movie"),
    ("no time", lambda t: events(t, ("x", 9, "a")), {"events": "stim_file"}, InputFileError, "'x'"),
    ("TR of the map", lambda t: map_of(t, "tr_s", 2.5), {"stimulus_map": "map.tsv"}, AlignmentError, "2 s by.*2.5 s"),
    ("length", lambda t: map_of(t, "n_volumes", 41), {"stimulus_map": "map.tsv"}, AlignmentError, "41 volumes.*40"),
    ("half", lambda t: map_of(t, "n_volumes", 4.5), {"stimulus_map": "map.tsv"}, InputFileError, "whole number"),
    ("never", lambda t: map_of(t, "onset_s", 79), {"stimulus_map": "map.tsv"}, AlignmentError, "80 s.*79 s"),
    ("no length", lambda t: map_of(t, "duration_s", -3), {"stimulus_map": "map.tsv"}, InputFileError, "'-3'"),
    ("StartTime", lambda t: start_time(t, 2000), {}, InvalidValueError, "2000"),
    ("word StartTime", lambda t: start_time(t, "0.5"), {}, InvalidValueError, "'0.5'"),
    ("scrub all", lambda t: None, {"scrub": "fd>0.01"}, InvalidValueError, "at most 50%"),
    ("scrub word", lambda t: None, {"scrub": "fd>x"}, InvalidValueError, "displacement"),
    ("scrub nothing", lambda t: None, {"scrub": " , "}, InvalidValueError, "scrub is"),
    ("scrub column", lambda t: None, {"scrub": "motion_outlyer"}, UnknownNameError, "motion_outlyer"),
    ("scrub values", lambda t: None, {"scrub": "trans_x"}, InputFileError, "0 and 1"),
    ("smooth", lambda t: None, {"smooth_mm": -1.0}, InvalidValueError, "-1"),
    ("overlap", lambda t: None, {"overlap": "cut"}, InvalidValueError, "'cut'"),
    ("repeats", lambda t: None, {"repeats": "all"}, InvalidValueError, "'all'"),
    ("select", lambda t: None, {"select": "best"}, InvalidValueError, "'best'"),
    ("session", lambda t: None, {"session": "a"}, UnknownNameError, "session 'a'"),
    ("run", lambda t: None, {"run": "7"}, UnknownNameError, "run-7"),
    ("desc", lambda t: None, {"desc": "preproc"}, UnknownNameError, "preproc"),
    ("both", lambda t: map_of(t, "tr_s", 2), {"stimulus_map": "map.tsv", "events": "a"}, InvalidValueError, "both"),
]


@pytest.mark.parametrize(("name", "spoil", "options", "error", "words"), BAD, ids=[case[0] for case in BAD])
def test_what_does_not_line_up_is_one_sentence_with_a_hint_and_writes_nothing(
    name: str, spoil: Any, options: dict[str, Any], error: type[BrainsimError], words: str, tree: Path
) -> None:
    spoil(tree)
    chosen = {k: tree / v if k == "stimulus_map" else v for k, v in options.items()}
    with pytest.raises(error, match=words) as caught:
        put(tree, **chosen)
    assert caught.value.hint, name
    assert "\n" not in caught.value.message
    if (tree.parent / "s.zarr").exists():
        assert Store(tree.parent / "s.zarr").nodes(complete=None) == []
