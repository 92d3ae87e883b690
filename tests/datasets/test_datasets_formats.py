"""A dataset format is one file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from brainsim.datasets.catalogue import FORMATS

TOY = '''
"""Turn .toy files, numbers in lines, into runs."""
from functools import partial
import numpy as np
from brainsim.datasets.dataset_format import DatasetFormat
from brainsim.datasets.runs import FoundRuns, Grid, RunSource

class ToySignal:
    tr_s = 2.0
    def __init__(self, path):
        self.values = np.loadtxt(path, ndmin=2, dtype=np.float32)
        self.n_trs, self.grid = len(self.values), Grid((self.values.shape[1],))
    def read(self, places):
        return self.values[:, places]
    def find_varying(self):
        return np.ones(self.values.shape[1], bool)

def find(paths, selection):
    return FoundRuns(tuple(RunSource("sub-01", p.stem, p, partial(ToySignal, p), space="table") for p in paths))

FORMAT = DatasetFormat("toy", "numbers in lines", lambda paths: paths[0].suffix == ".toy", find)
'''

USE = """
import sys
from pathlib import Path
from brainsim.datasets import formats
formats.__path__.append(sys.argv[1])
from brainsim.commands.ingest import ingest
summary = ingest(Path(sys.argv[1]) / "film.toy", dataset="toys", store=Path(sys.argv[1]) / "s.zarr", high_pass_s=None)
print(summary.format, summary.n_runs, summary.n_targets["sub-01"])
"""


def test_the_formats_that_ship_are_found() -> None:
    assert {"bids", "nifti", "table"} <= set(FORMATS)
    assert all(row.summary and row.name == name for name, row in FORMATS.items())


def test_a_file_beside_the_others_is_a_format(tmp_path: Path) -> None:
    (tmp_path / "toy.py").write_text(TOY)
    (tmp_path / "film.toy").write_text("1 2 3\n4 4 1\n2 0 0\n")

    done = subprocess.run([sys.executable, "-c", USE, str(tmp_path)], capture_output=True, text=True, check=False)

    assert done.stdout.split() == ["toy", "1", "3"], done.stderr
