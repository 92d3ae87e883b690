"""`brainsim init`: what lies in a data folder becomes a study file that can be read, with true defaults as comments."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from brainsim.commands.init import init
from brainsim.commands.study_file import read_study
from brainsim.commands.study_keys import step_verbs
from brainsim.commands.study_text import THAT_MATTER
from brainsim.core.errors import InputFileError, InvalidValueError
from brainsim.datasets.bids_write import write_bold, write_confounds, write_description, write_labels, write_sidecar

RUNS = ("run-1", "run-2", "run-10")
TR_S = 2.0


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a folder with movies, a BIDS tree of two subjects, and what is neither."""
    folder = tmp_path / "my data"
    tree = folder / "bids"
    for run in RUNS:
        (folder / "movies").mkdir(parents=True, exist_ok=True)
        (folder / "movies" / f"{run}.mp4").write_bytes(b"not looked into")
        for subject in ("01", "02"):
            stem = tree / f"sub-{subject}/func/sub-{subject}_task-movie_{run}"
            stem.parent.mkdir(parents=True, exist_ok=True)
            values = np.random.default_rng(0).normal(100, 1, (2, 2, 2, 6)).astype(np.float32)
            write_bold(Path(f"{stem}_bold.nii.gz"), values, affine=np.diag([3.0, 3, 3, 1]), tr_s=TR_S)
            write_sidecar(Path(f"{stem}_bold.json"), tr_s=TR_S, task="movie")
            write_confounds(Path(f"{stem}_desc-confounds_timeseries.tsv"), {"trans_x": np.zeros(6)})
    write_description(tree, name="movies")
    write_labels(
        tree / "rois_dseg.nii.gz", np.ones((2, 2, 2), np.int16), affine=np.diag([3.0, 3, 3, 1]), names={1: "V1"}
    )
    (folder / "figures").mkdir()
    (folder / "figures" / "plot.png").touch()
    (folder / ".git").mkdir()
    (folder / ".git" / "movie.mp4").touch()
    (folder / "s.zarr").mkdir()
    (folder / "s.zarr" / "zarr.json").touch()
    np.save(folder / "s.zarr" / "frames.npy", np.zeros((3, 4, 5), np.float32))
    return folder


def test_movies_and_scans_become_a_study_that_can_be_read(data: Path, tmp_path: Path) -> None:
    summary = init(data, out=tmp_path / "study.toml")
    assert summary.stimuli == RUNS[:1] + RUNS[2:] + RUNS[1:2]  # as the folder lists them
    assert [(row["dataset"], row["format"], row["n_subjects"], row["n_runs"]) for row in summary.datasets] == [
        ("bids", "bids", 2, 3)
    ]
    assert summary.steps == (
        "extract.systems", "ingest.bids", "fit.main", "partition.families", "rsa.geometry", "report",
    )  # fmt: skip
    assert summary.warnings == ()
    assert summary.next == f"brainsim run {tmp_path / 'study.toml'} --dry-run"
    steps = {step.name: step for step in read_study(tmp_path / "study.toml").steps}
    assert steps["extract.systems"].values["stimuli"] == [f"my data/movies/{run}.mp4" for run in RUNS]
    assert steps["ingest.bids"].values["source"] == ["my data/bids"]
    assert steps["ingest.bids"].values["rois"] == "my data/bids/rois_dseg.nii.gz"
    text = (tmp_path / "study.toml").read_text(encoding="utf-8")
    assert "Tables of confounds are there" in text
    assert "a stimulus map" not in text  # each run is called like its movie


def test_comments_are_options_with_the_verbs_own_defaults(data: Path, tmp_path: Path) -> None:
    init(data, out=tmp_path / "study.toml")
    text = (tmp_path / "study.toml").read_text(encoding="utf-8")
    # Tables that are comments as a whole: those that not every study asks.
    optional = set(re.findall(r"^# \[(\w+)\.", text, flags=re.MULTILINE))
    assert optional == {"claims", "accuracy"}
    text = re.sub(r"^# \[(claims|accuracy)\..*?\n\n", "", text, flags=re.MULTILINE | re.DOTALL)
    active = re.sub(r"^# (\w+ = (?!.*…).+)$", r"\1", text, flags=re.MULTILINE)
    active = re.sub(r"^(mine = )", r"# \1", active, flags=re.MULTILINE)  # the example of a family
    before, after = tomllib.loads(text), tomllib.loads(active)
    n_options = 0
    assert before.keys() & step_verbs().keys() == step_verbs().keys() - optional
    for word, step in step_verbs().items():
        if word in optional:
            continue
        found, table = ((t[word] if word == "report" else next(iter(t[word].values()))) for t in (before, after))
        for key in set(table) - set(found):
            given, default = step.keys[key].read(table[key]), step.keys[key].default
            assert given == (tuple(default) if isinstance(default, list | tuple) else default), (word, key)
            n_options += 1
    assert n_options > 15


def test_words_are_those_of_the_docstrings(data: Path, tmp_path: Path) -> None:
    init(data, out=tmp_path / "study.toml")
    told = " ".join((tmp_path / "study.toml").read_text(encoding="utf-8").replace("#", " ").split())
    assert "Seconds from one clip to the next." in told
    assert "One of layer, system, family." in told


def test_runs_without_a_movie_of_their_name_are_told(data: Path, tmp_path: Path) -> None:
    (data / "movies" / "run-2.mp4").rename(data / "movies" / "forrest.mp4")
    init(data, out=tmp_path / "study.toml")
    assert "No movie is called like each run" in (tmp_path / "study.toml").read_text(encoding="utf-8")


def test_arrays_of_frames_and_of_runs_are_told_apart(tmp_path: Path) -> None:
    data = tmp_path / "arrays"
    (data / "frames").mkdir(parents=True)
    (data / "bold").mkdir()
    for run in RUNS:
        np.save(data / "frames" / f"{run}.npy", np.zeros((6, 4, 5), np.float32))
        np.save(data / "bold" / f"{run}.npy", np.random.default_rng(0).normal(size=(6, 3)))
    (data / "bold" / "broken.npy").write_bytes(b"no array")
    summary = init(data, out=data / "study.toml", title='Say "movies"')
    assert sorted(summary.stimuli) == sorted(RUNS)
    assert [row["format"] for row in summary.datasets] == ["table"]
    steps = {step.name: step for step in read_study(data / "study.toml").steps}
    assert steps["extract.systems"].values["stimuli"] == [f"frames/{run}.npy" for run in RUNS]
    assert steps["extract.systems"].values["frame_s"] == 1.0
    assert sorted(steps["ingest.bold"].values["source"]) == [f"bold/{run}.npy" for run in sorted(RUNS)]
    assert steps["report"].values["title"] == 'Say "movies"'


def test_what_is_missing_is_a_comment_that_tells_where_it_goes(tmp_path: Path) -> None:
    (tmp_path / "movies").mkdir()
    (tmp_path / "movies" / "a.mkv").touch()
    summary = init(tmp_path / "movies", out=tmp_path / "study.toml")
    assert summary.steps == ("extract.systems",)
    assert "holds no scans" in summary.warnings[0]
    assert "# [ingest.mine]" in (tmp_path / "study.toml").read_text(encoding="utf-8")


def test_a_study_file_is_never_overwritten(data: Path, tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text("mine")
    with pytest.raises(InvalidValueError, match="never overwritten"):
        init(data, out=tmp_path / "study.toml")
    assert (tmp_path / "study.toml").read_text() == "mine"


def test_a_folder_of_nothing_is_told_and_nothing_written(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputFileError, match="holds neither movies"):
        init(tmp_path / "empty", out=tmp_path / "study.toml")
    with pytest.raises(InputFileError, match="no data folder at"):
        init(tmp_path / "nowhere", out=tmp_path / "study.toml")
    assert not (tmp_path / "study.toml").exists()


def test_the_options_that_matter_exist_in_some_verb() -> None:
    ahead = {"pairs", "protocol"}  # of an rsa to come
    for word, names in THAT_MATTER.items():
        assert set(names) - set(step_verbs()[word].keys) <= ahead, word
