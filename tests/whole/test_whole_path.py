"""Every verb of the flow through the command line, on movies and scans on disk: small, but nothing is faked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brainsim.store import Store


class Shell:
    """A folder with a store, and the verbs that work in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store.zarr"

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "brainsim", *words]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)

    def json(self, *words: str) -> dict[str, Any]:
        done = self.run(*words, "--json")
        assert done.returncode == 0, done.stderr
        summary: dict[str, Any] = json.loads(done.stdout)
        return summary


FIT = ("--alphas", "0.1,1,10,100", "--n-candidates", "40", "--store", "store.zarr", "--dataset", "planted")


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """Simulate a small cohort (8 runs of 60 s, 2 subjects) and ingest it."""
    shell = Shell(tmp_path_factory.mktemp("path"))
    shell.json("simulate", "sim", "--store", "store.zarr", "--subjects", "2", "--run-s", "60", "--n-voxels", "6")
    shell.json(
        "ingest", "sim/bids", "--dataset", "planted", "--store", "store.zarr", "--confounds", "motion6",
        "--rois", "sim/bids/streams_dseg.nii.gz", "--stimulus-map", "sim/bids/stimulus_map.tsv",
    )  # fmt: skip
    return shell


def test_simulated_files_are_movies_and_bids(shell: Shell) -> None:
    assert len(list((shell.folder / "sim" / "movies").glob("*.mp4"))) == 8
    assert len(list((shell.folder / "sim" / "bids").glob("sub-*/func/*_bold.nii.gz"))) == 16
    truth = Store(shell.store).info("truth/planted").attributes
    assert len(truth["rows"]) == 20
    parts = [row["r2"] for row in truth["parts"] if row["stream"] == "early"]
    joint = next(row["r2"] for row in truth["joint"] if row["stream"] == "early")
    assert sum(parts) == pytest.approx(joint, abs=1e-6)


def test_all_nine_systems_and_their_104_layers_are_stored(shell: Shell) -> None:
    nodes = Store(shell.store).nodes("activations", type="activations")
    assert len({n.attributes["model"] for n in nodes}) == 9
    assert len({(n.attributes["model"], n.attributes["layer"]) for n in nodes}) == 104


def test_fit_scores_and_splits_every_voxel(shell: Shell) -> None:
    summary = shell.json("fit", "all", *FIT)
    assert summary["n_nodes_written"] == 2
    assert summary["n_layers"] == 104
    store = Store(shell.store)
    r2 = store.read("fits/all/planted/sub-01", "r2")
    np.testing.assert_allclose(store.read("fits/all/planted/sub-01", "split_r2").sum(axis=0), r2, atol=1e-4)
    assert store.read("fits/all/planted/sub-01", "layer_r2").shape == (104, 24)
    assert np.nanmean(store.read("fits/all/planted/sub-01", "r")) > 0.15  # 210 TRs to train on
    again = shell.json("fit", "all", *FIT)
    assert (again["n_nodes_written"], again["n_nodes_reused"]) == (0, 2)


def test_other_options_under_a_taken_name_are_refused_at_once(shell: Shell) -> None:
    shell.json("fit", "taken", *FIT, "--no-layer-curves")
    refused = shell.run("fit", "taken", *FIT, "--no-layer-curves", "--delays", "2,3")
    assert refused.returncode == 1
    assert "in the store already" in refused.stderr
    assert "--overwrite" in refused.stderr


def test_partition_gives_every_part_of_five_families(shell: Shell) -> None:
    summary = shell.json("partition", "families", *FIT, "--bands", "family")
    assert len(summary["families"]) == 5
    assert len(summary["rows"]) == 20
    store = Store(shell.store)
    path = "partitions/families/planted/sub-02"
    scores, parts = store.read(path, "subset_r2"), store.read(path, "parts")
    assert scores.shape == parts.shape == (31, 24)
    np.testing.assert_allclose(parts.sum(axis=0), scores[-1], atol=1e-4)
    np.testing.assert_allclose(store.read(path, "shapley").sum(axis=0), scores[-1], atol=1e-4)
    np.testing.assert_allclose(store.read(path, "product").sum(axis=0), scores[-1], atol=1e-4)


def test_families_can_be_regrouped(shell: Shell) -> None:
    summary = shell.json(
        "partition", "two", *FIT, "--family", "still=cnn-static-*,mae-*", "--family", "moving=cnn-flow-*,video*,mvd-*"
    )
    assert summary["families"] == ["still", "moving"]
    assert summary["n_subsets"] == 3


def test_rsa_scores_every_model_in_every_stream(shell: Shell) -> None:
    summary = shell.json("rsa", "geometry", "--dataset", "planted", "--store", "store.zarr")
    assert len(summary["rows"]) == 36
    assert {row["stream"] for row in summary["ceilings"]} == {"early", "ventral", "lateral", "dorsal"}
    again = shell.json("rsa", "geometry", "--dataset", "planted", "--store", "store.zarr")
    assert again["n_nodes_written"] == 0


def test_report_is_one_page_of_it_all(shell: Shell) -> None:
    shell.json("partition", "families", *FIT, "--bands", "family")
    summary = shell.json("report", "--store", "store.zarr", "--out", "page")
    page = Path(shell.folder / summary["page"]).read_text(encoding="utf-8")
    assert "planted" in page
    assert "unique" in page


def test_dry_runs_write_nothing(shell: Shell) -> None:
    before = len(Store(shell.store).nodes())
    for words in (("fit", "dry", *FIT), ("partition", "dry", *FIT), ("rsa", "dry", *FIT[4:])):
        summary = shell.json(*words, "--dry-run")
        assert summary["n_nodes_written"] == 0
    assert len(Store(shell.store).nodes()) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("fit", "x", *FIT[:-1], "plantd"), "did you mean 'planted'"),
        (("fit", "x", *FIT, "--models", "resnet*"), "no stored model matches"),
        (("fit", "x", *FIT, "--delays", "40"), "--delays"),
        (("fit", "x", *FIT, "--alphas", "3,1"), "increasing"),
        (("fit", "x", *FIT, "--subjects", "sub-09"), "no subject"),
        (("fit", "x", *FIT, "--cv", "blocks", "--blocks", "2"), "--blocks is 2"),
        (("fit", "x", *FIT, "--cv", "blocks", "--blocks", "4", "--gap", "-1"), "--gap is -1"),
        (("fit", "x", *FIT, "--bands", "voxel"), "--bands"),
        (("fit", "x", *FIT, "--scaling", "minmax"), "--scaling"),
        (("fit", "x", *FIT, "--solver", "ols"), "--solver"),
        (("fit", "x", *FIT, "--device", "cuda"), "cuda"),
        (("partition", "x", *FIT, "--family", "a=mae-*"), "at least two"),
        (("partition", "x", *FIT, "--family", "a=mae-*", "--family", "b=mae-base-tiny"), "two families"),
        (("partition", "x", *FIT, "--family", "a=mae-*", "--family", "b=vgg*"), "matches no stored model"),
        (("rsa", "x", *FIT[4:], "--compare", "spaerman"), "did you mean 'spearman'"),
        (("rsa", "x", *FIT[4:], "--min-lag-s", "-1"), "--min-lag-s"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing_behind(shell: Shell, words: tuple[str, ...], said: str) -> None:
    before = len(Store(shell.store).nodes(complete=None))
    done = shell.run(*words)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert said in done.stderr
    assert len(Store(shell.store).nodes(complete=None)) == before
