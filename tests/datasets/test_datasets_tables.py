"""Tables and arrays, time first, in every form that labs save them."""

from __future__ import annotations

import gzip
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.testing import assert_allclose

from brainsim.datasets.alignment import resolve_tr
from brainsim.datasets.catalogue import find_runs
from brainsim.datasets.runs import Selection
from brainsim.datasets.tables import ArraySignal

VALUES = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
ALL = np.arange(4)


def as_text(values: np.ndarray, *, delimiter: str, header: str = "") -> str:
    rows = "\n".join(delimiter.join(f"{v:.9g}" for v in row) for row in values)
    return f"{header}\n{rows}\n" if header else f"{rows}\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.tsv", as_text(VALUES, delimiter="\t")),
        ("x.csv", as_text(VALUES, delimiter=",", header="a,b,c,d")),
        ("x.csv", as_text(VALUES, delimiter=",", header="0,1,2,3")),
        ("x.tsv", "\ufeff" + as_text(VALUES, delimiter="\t", header="1\t2\t3\t4").replace("\n", "\r\n")),
        ("x.tsv", as_text(np.c_[np.arange(9), VALUES], delimiter="\t", header="time\t0\t1\t2\t3")),
    ],
)
def test_text_tables_give_their_values(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(text.encode()))

    for path in (tmp_path / name, tmp_path / f"{name}.gz"):
        signal = ArraySignal(path)
        assert (signal.n_trs, signal.grid.shape) == (9, (4,))
        assert_allclose(signal.read(ALL), VALUES, rtol=1e-6)


def test_missing_cells_are_nan(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b\n1,n/a\n2,\n3,4\n")
    assert np.isnan(ArraySignal(tmp_path / "x.csv").read(np.array([1])).ravel()).tolist() == [True, True, False]


def test_containers_give_a_run_per_array_and_say_what_they_leave(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "sub-03_bold.h5", "w") as file:
        file["ses-1_task-a_run-2"] = VALUES
        file["ses-1_task-a_run-10"] = VALUES + 1
        file["onsets"] = np.arange(3)
    np.savez(tmp_path / "z.npz", first=VALUES, second=VALUES + 1)

    _, h5 = find_runs([tmp_path / "sub-03_bold.h5"], format="auto", selection=Selection())
    _, npz = find_runs([tmp_path / "z.npz"], format="auto", selection=Selection())

    assert [(r.subject, r.run) for r in h5.runs] == [("sub-03", "run-2"), ("sub-03", "run-10")]
    assert "onsets (3,)" in h5.notes[0]
    assert [r.run for r in npz.runs] == ["first", "second"]
    assert_allclose(npz.runs[1].open().read(ALL), VALUES + 1)
    assert_allclose(h5.runs[1].open().read(ALL[:2]), VALUES[:, :2] + 1)


def test_a_time_column_in_seconds_is_the_tr_and_one_that_counts_rows_is_not(tmp_path: Path) -> None:
    for name, step in (("seconds", 1.317025), ("rows", 1.0)):
        table = np.c_[np.arange(9) * step, VALUES]
        (tmp_path / f"{name}.tsv").write_text(as_text(table, delimiter="\t", header="time\ta\tb\tc\td"))

    assert ArraySignal(tmp_path / "seconds.tsv").tr_s == pytest.approx(1.317025)
    assert ArraySignal(tmp_path / "rows.tsv").tr_s is None
    _, found = find_runs([tmp_path / "rows.tsv"], format="table", selection=Selection())
    assert resolve_tr(found.runs[0], header_tr_s=None, tr_s=1.5)[0] == 1.5


def test_a_subject_asked_for_names_tables_that_name_none(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", VALUES)
    _, found = find_runs([tmp_path / "x.npy"], format="auto", selection=Selection(("S5",)))
    assert [(r.subject, r.run) for r in found.runs] == [("sub-S5", "run-1")]
