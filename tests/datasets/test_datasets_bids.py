"""BIDS trees, raw and derived by new and old fMRIPrep, by the names of their files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from brainsim.core.errors import InvalidValueError
from brainsim.datasets.catalogue import find_runs
from brainsim.datasets.entities import parse_name
from brainsim.datasets.runs import FoundRuns, Selection


def lay(tree: Path, *names: str) -> Path:
    for name in names:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("{}")
    return tree


def find(tree: Path, *, subjects: tuple[str, ...] = (), task: str | None = None, space: str | None = None) -> FoundRuns:
    return find_runs([tree], format="auto", selection=Selection(subjects, task, space))[1]


@pytest.mark.parametrize(
    ("name", "entities", "suffix"),
    [
        ("sub-01_ses-a_task-m_run-01_bold.nii.gz", {"sub": "01", "ses": "a", "task": "m", "run": "1"}, "bold"),
        (
            "sub-01_task-m_space-T1w_desc-preproc_bold.nii.gz",
            {"sub": "01", "task": "m", "space": "T1w", "desc": "preproc"},
            "bold",
        ),
        (
            "sub-01_task-m_bold_space-T1w_preproc.nii.gz",
            {"sub": "01", "task": "m", "space": "T1w", "desc": "preproc"},
            "bold",
        ),
        (
            "sub-01_task-m_bold_space-T1w_variant-smoothAROMAnonaggr_preproc.nii.gz",
            {"sub": "01", "task": "m", "space": "T1w", "desc": "smoothAROMAnonaggr"},
            "bold",
        ),
        (
            "sub-01_task-m_bold_space-T1w_brainmask.nii.gz",
            {"sub": "01", "task": "m", "space": "T1w", "desc": "brain"},
            "mask",
        ),
        ("sub-01_task-m_bold_confounds.tsv", {"sub": "01", "task": "m", "desc": "confounds"}, "timeseries"),
        ("sub-01_task-m_desc-confounds_regressors.tsv", {"sub": "01", "task": "m", "desc": "confounds"}, "timeseries"),
    ],
)
def test_names_are_read(name: str, entities: dict[str, str], suffix: str) -> None:
    read = parse_name(Path(name))
    assert (dict(read.entities), read.suffix) == (entities, suffix)


def test_studyforrest_names_give_runs_in_order_and_leave_other_images(tmp_path: Path) -> None:
    runs = [f"sub-01/ses-movie/func/sub-01_ses-movie_task-movie_run-{r}_bold.nii.gz" for r in (1, 2, 8, 10)]
    tree = lay(tmp_path, *runs, "sub-01/anat/sub-01_T1w.nii.gz", "sub-01/ses-movie/func/sub-01_task-movie_sbref.nii.gz")

    assert [run.run for run in find(tree).runs] == ["run-1", "run-2", "run-8", "run-10"]


@pytest.mark.parametrize(
    ("image", "table"),
    [
        ("sub-01_task-m_run-1_space-T1w_desc-preproc_bold", "sub-01_task-m_run-1_desc-confounds_timeseries"),
        ("sub-01_task-m_run-1_space-T1w_desc-preproc_bold", "sub-01_task-m_run-1_desc-confounds_regressors"),
        ("sub-01_task-m_run-1_bold_space-T1w_preproc", "sub-01_task-m_run-1_bold_confounds"),
        ("sub-01_task-m_run-1_bold", "sub-01_task-m_run-1_desc-confounds_timeseries"),
    ],
)
def test_confounds_are_found_under_new_and_old_names(image: str, table: str, tmp_path: Path) -> None:
    other = table.replace("run-1", "run-2")
    tree = lay(tmp_path, *(f"sub-01/func/{name}" for name in (f"{image}.nii.gz", f"{table}.tsv", f"{other}.tsv")))

    (run,) = find(tree).runs

    assert run.confounds == tree / f"sub-01/func/{table}.tsv"


def test_preprocessed_runs_come_before_raw_ones_of_the_same_tree(tmp_path: Path) -> None:
    tree = lay(tmp_path, "sub-01/sub-01_task-m_bold.nii.gz", "sub-01/sub-01_task-m_desc-preproc_bold.nii.gz")
    found = find(tree)
    assert [run.path.name for run in found.runs] == ["sub-01_task-m_desc-preproc_bold.nii.gz"]
    assert "raw" in found.notes[0]


def test_space_task_and_subjects_choose(tmp_path: Path) -> None:
    names = [
        f"sub-{s}/sub-{s}_task-{t}_run-1_{space}desc-preproc_bold.nii.gz"
        for s in ("01", "02")
        for t in ("movie", "rest")
        for space in ("", "space-T1w_")
    ]
    tree = lay(tmp_path, *names)

    native = find(tree, subjects=("sub-02",), task="movie", space="native").runs
    t1w = find(tree, subjects=("01", "02"), task="task-rest", space="space-T1w").runs

    assert [run.path.name for run in native] == ["sub-02_task-movie_run-1_desc-preproc_bold.nii.gz"]
    assert [(run.subject, run.space) for run in t1w] == [("sub-01", "T1w"), ("sub-02", "T1w")]
    with pytest.raises(InvalidValueError, match="movie, rest"):
        find(tree, space="T1w")


def test_sessions_and_several_tasks_are_part_of_the_label(tmp_path: Path) -> None:
    names = [f"sub-01/ses-{s}/sub-01_ses-{s}_task-{t}_bold.nii.gz" for s in "ab" for t in ("M1", "M2", "rest")]
    tree = lay(tmp_path, *names)

    assert [run.run for run in find(tree, task="M1").runs] == ["ses-a_run-1", "ses-b_run-1"]
    assert [run.run for run in find(tree, task="M*").runs] == [
        f"ses-{s}_task-{t}_run-1" for s in "ab" for t in ("M1", "M2")
    ]


def test_the_nearest_sidecar_wins(tmp_path: Path) -> None:
    tree = lay(tmp_path, "sub-01/func/sub-01_task-m_run-1_bold.nii.gz", "sub-01/func/sub-01_task-m_run-2_bold.nii.gz")
    (tree / "task-m_bold.json").write_text(json.dumps({"RepetitionTime": 2.0, "EchoTime": 0.03}))
    (tree / "task-rest_bold.json").write_text(json.dumps({"RepetitionTime": 9.0}))
    (tree / "sub-01/func/sub-01_task-m_run-2_bold.json").write_text(json.dumps({"RepetitionTime": 1.0}))

    first, second = find(tree).runs

    assert first.sidecar == {"RepetitionTime": 2.0, "EchoTime": 0.03}
    assert second.sidecar == {"RepetitionTime": 1.0, "EchoTime": 0.03}


def test_phase_images_and_other_pipelines_are_passed_by(tmp_path: Path) -> None:
    tree = lay(
        tmp_path,
        "sub-01/sub-01_task-m_part-mag_bold.nii.gz",
        "sub-01/sub-01_task-m_part-phase_bold.nii.gz",
        "derivatives/fmriprep/sub-01/sub-01_task-m_desc-preproc_bold.nii.gz",
        "sub-01/sub-01_task-m_hemi-L_bold.func.gii",
    )
    assert [run.path.name for run in find(tree).runs] == ["sub-01_task-m_part-mag_bold.nii.gz"]
