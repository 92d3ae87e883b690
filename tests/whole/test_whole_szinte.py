"""The commands of docs/tour.md on real responses of V1 to a real movie: what a user would type, and what comes out."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from brainsim.store import Store


@pytest.fixture(scope="module")
def walk(shared_dir: Path, root_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the marked block of the tour in a folder that holds the data set, and return the folder."""
    folder = tmp_path_factory.mktemp("szinte")
    for name in ("dm_gazecenter.npz", "mask-v1_bold.tsv.gz"):
        shutil.copy(shared_dir / "data" / "szinte2024_v1" / name, folder)
    text = (root_dir / "docs" / "tour.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- tour:szinte -->\s*```console\n(.*?)```", text, re.DOTALL)
    assert found is not None
    commands = [line[2:] for line in found[1].splitlines() if line.startswith("$ ")]
    assert [shlex.split(c)[1] for c in commands] == ["extract", "ingest", "fit", "report"]
    for command in commands:
        words = shlex.split(command)[1:]
        done = subprocess.run(
            [sys.executable, "-m", "brainsim", *words], cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
    return folder


def test_real_responses_are_predicted_as_well_as_a_plain_ridge_predicts_them(walk: Path) -> None:
    r = Store(walk / "v1.zarr").read("fits/v1/szinte/sub-01", "r")
    assert len(r) == 2365
    # Voxels that never change have no correlation; counted as 0 they only make it harder.
    assert np.median(np.nan_to_num(r)) >= 0.25
    assert (r > 0.5).sum() >= 370


def test_voxels_that_never_change_stay_nan_and_are_told(walk: Path) -> None:
    store = Store(walk / "v1.zarr")
    r2 = store.read("fits/v1/szinte/sub-01", "r2")
    attributes = store.info("fits/v1/szinte/sub-01").attributes
    assert np.isnan(r2).sum() == attributes["summary"]["n_masked"] == 57
    assert any("57 of 2,365" in warning for warning in attributes["warnings"])


def test_the_page_tells_the_result(walk: Path) -> None:
    page = (walk / "v1-report" / "index.html").read_text(encoding="utf-8")
    assert "szinte" in page
    assert "pixels" in page
