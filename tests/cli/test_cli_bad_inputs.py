"""Mistakes that users make: each is one sentence and a hint on stderr, nothing on stdout, and exit code 1."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from brainsim.cli.main import make_app
from brainsim.commands.extract import extract
from brainsim.commands.ingest import ingest

TR_S = 2.0
N_TRS = 30


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a movie, runs, and a store that holds both."""
    folder = tmp_path_factory.mktemp("bad_inputs")
    rng = np.random.default_rng(0)
    np.save(folder / "run-1.npy", rng.random((N_TRS, 18, 32), dtype=np.float32))
    np.save(folder / "bold_run-1.npy", rng.normal(size=(N_TRS, 12)).astype(np.float32))
    (folder / "empty").mkdir()
    (folder / "notes.txt").write_text("no movie")
    store = folder / "s.zarr"
    extract([folder / "run-1.npy"], models=["pixels"], store=store, frame_s=TR_S, step_s=TR_S)
    ingest(folder / "bold_run-1.npy", dataset="d", store=store, tr_s=TR_S)
    return folder


MISTAKES = {
    "no movie there": "extract nowhere.mp4 --models pixels --store t.zarr",
    "no movie format": "extract notes.txt --models pixels --store t.zarr",
    "unknown model": "extract run-1.npy --models pixel --frame-s 2 --store t.zarr",
    "no duration of a frame": "extract run-1.npy --models pixels --store t.zarr",
    "negative duration of a frame": "extract run-1.npy --models pixels --frame-s -2 --store t.zarr",
    "step of zero": "extract run-1.npy --models pixels --frame-s 2 --step-s 0 --store t.zarr",
    "unknown layer": "extract run-1.npy --models pixels --layers conv9 --frame-s 2 --store t.zarr",
    "unknown pooling": "extract run-1.npy --models pixels --pool max --frame-s 2 --store t.zarr",
    "unknown dtype": "extract run-1.npy --models pixels --dtype float8 --frame-s 2 --store t.zarr",
    "unknown clip window": "extract run-1.npy --models pixels --clip-window leading --frame-s 2 --store t.zarr",
    "no checkpoint there": "extract run-1.npy --models mvd-base --checkpoint no.pth --frame-s 2 --store t.zarr",
    "two movies of one name": "extract run-1.npy run-1.npy --models pixels --frame-s 2 --store t.zarr",
    "fewer names than movies": "extract run-1.npy --names a,b --models pixels --frame-s 2 --store t.zarr",
    "no scans there": "ingest nowhere --dataset d --store t.zarr",
    "empty folder": "ingest empty --dataset d --store t.zarr",
    "no TR": "ingest bold_run-1.npy --dataset d --store t.zarr",
    "TR in milliseconds": "ingest bold_run-1.npy --dataset d --tr-s 2000 --store t.zarr",
    "dataset with a slash": "ingest bold_run-1.npy --dataset a/b --tr-s 2 --store t.zarr",
    "unknown format": "ingest bold_run-1.npy --dataset d --tr-s 2 --format dicom --store t.zarr",
    "fit without a store": "fit a --dataset d --store nowhere.zarr",
    "fit of an unknown dataset": "fit a --dataset dd --store s.zarr",
    "fit of an unknown model": "fit a --dataset d --models resnet --store s.zarr",
    "one run left out of one": "fit a --dataset d --store s.zarr",
    "unknown bands": "fit a --dataset d --bands models --cv blocks --store s.zarr",
    "delays longer than the run": "fit a --dataset d --delays 1,40 --cv blocks --store s.zarr",
    "gap that leaves no training": "fit a --dataset d --cv blocks --gap 20 --store s.zarr",
    "unknown subject": "fit a --dataset d --subjects 09 --cv blocks --store s.zarr",
    "negative alpha": "fit a --dataset d --alphas=-1,1 --cv blocks --store s.zarr",
    "name with a slash": "fit a/b --dataset d --cv blocks --store s.zarr",
    "partition of one family": "partition a --dataset d --cv blocks --store s.zarr",
    "family that matches no model": "partition a --dataset d --family x=resnet* --cv blocks --store s.zarr",
    "report of nothing": "report --store s.zarr --out page",
    "report without a store": "report --store nowhere.zarr --out page",
    "unknown model shown": "models show pixls",
    "unknown family listed": "models list --family cnn",
    "unknown protocol": "models show pixels --protocol mine --no-layers",
    "store that is not there": "store ls --store nowhere.zarr",
    "unknown node": "store show bold/d/sub-02/run-1 --store s.zarr",
    "store in a folder of something else": "store verify --store empty",
    "demo with one subject": "demo --subjects 1 --out demo",
}


@pytest.mark.parametrize("command", MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_one_sentence_and_a_hint_and_leaves_nothing_behind(
    command: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    before = sorted(place.iterdir())
    result = CliRunner().invoke(make_app(), command.split())
    assert result.exit_code == 1, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.stdout == ""
    lines = [line for line in result.stderr.splitlines() if not line.startswith(("Note: ", "Warning: "))]
    assert len(lines) == 2, result.stderr
    assert lines[0].startswith("Error: ")
    assert lines[0].endswith((".", "?"))
    assert lines[1].startswith("Hint: ")
    left = [path for path in place.iterdir() if path not in before]
    for path in left:
        shutil.rmtree(path)
    assert left == []
