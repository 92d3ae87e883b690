"""Every bad input is one sentence with a hint, and leaves nothing in the store."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pytest
from ingest_trees import AFFINE, SHAPE, STREAM_NAMES, make_confounds, make_labels, make_values, run_stem, write_tree

from brainsim.commands.ingest import ingest
from brainsim.core.errors import (
    AlignmentError,
    BrainsimError,
    InputFileError,
    InvalidValueError,
    UnknownNameError,
)
from brainsim.datasets.bids_write import write_bold, write_confounds, write_labels, write_rows, write_sidecar
from brainsim.store import Store


def bold(tree: Path, run: int = 2) -> Path:
    return Path(f"{run_stem(tree, run=run)}_bold.nii.gz")


def sidecar(tree: Path, run: int = 2) -> Path:
    return Path(f"{run_stem(tree, run=run)}_bold.json")


def confounds(tree: Path, run: int = 2) -> Path:
    return Path(f"{run_stem(tree, run=run)}_desc-confounds_timeseries.tsv")


def patch_bytes(path: Path, change: Callable[[bytearray], Any]) -> None:
    data = bytearray(path.read_bytes())
    changed = change(data)
    path.write_bytes(bytes(data if changed is None else changed))


def flip(data: bytearray, position: int) -> None:
    data[position] ^= 4


def patch_header(tree: Path, change: Callable[[Any], None]) -> None:
    """Rewrite run 2 with another header."""
    image = nib.load(bold(tree))
    image = nib.Nifti1Image(np.asanyarray(image.dataobj), image.affine, image.header)
    change(image.header)
    nib.save(image, bold(tree))


def rewrite(tree: Path, values: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    write_bold(bold(tree), values, affine=affine, tr_s=2.0)


def write_array(tree: Path, values: np.ndarray, name: str = "run-1.npy", **options: Any) -> dict[str, Any]:
    np.save(tree / name, values, **options)
    return {"source": tree / name, "tr_s": 2.0}


def write_text(tree: Path, text: str, name: str = "run-1.tsv", tr_s: float | None = 2.0) -> dict[str, Any]:
    (tree / name).write_text(text)
    return {"source": tree / name, "tr_s": tr_s}


def zero(data: bytes, where: slice) -> bytes:
    changed = bytearray(data)
    changed[where] = bytes(where.stop - where.start)
    return bytes(changed)


SROW_X = slice(280, 296)  # first row of a NIfTI-1 header's sform
FLIPPED = np.diag([-1.0, 1, 1, 1]) @ AFFINE
NAN = np.full((*SHAPE, 40), np.nan, np.float32)


@dataclass(frozen=True)
class Bad:
    """One bad input: what is done to a good tree, and what the error must be and name."""

    name: str
    spoil: Callable[[Path], Any]
    error: type[BrainsimError]
    words: tuple[str, ...]


def bad(name: str, error: type[BrainsimError], *words: str, **options: Any) -> Callable[[Callable[[Path], Any]], Bad]:
    def make(spoil: Callable[[Path], Any]) -> Bad:
        def spoil_and_choose(tree: Path) -> dict[str, Any]:
            chosen = spoil(tree)
            extra = chosen if isinstance(chosen, dict) else {}
            inside = {k: tree / v if isinstance(v, Path) else v for k, v in options.items()}
            return {**inside, **extra}

        return Bad(name, spoil_and_choose, error, words)

    return make


def nothing(tree: Path) -> None:
    """Leave the tree good: the options are what is bad."""


ROIS = Path("streams_dseg.nii.gz")
CASES = [
    # files
    bad("truncated gzip", InputFileError, "damaged", "run-2")(
        lambda t: patch_bytes(bold(t), lambda d: d[: len(d) // 2])
    ),
    bad("gzip without trailer", InputFileError, "damaged")(lambda t: patch_bytes(bold(t), lambda d: d[:-6])),
    bad("flipped bit in gzip", InputFileError, "damaged")(
        lambda t: patch_bytes(bold(t), lambda d: flip(d, len(d) // 2))
    ),
    bad("wrong checksum", InputFileError, "damaged", "CRC")(
        lambda t: patch_bytes(bold(t), lambda d: flip(d, len(d) - 6))
    ),
    bad("data shorter than header", InputFileError, "promises 40 volumes", "holds 39")(
        lambda t: bold(t).write_bytes(gzip.compress(gzip.decompress(bold(t).read_bytes())[:-100]))
    ),
    bad("wrong magic", InputFileError, "no NIfTI file")(
        lambda t: bold(t).write_bytes(gzip.compress(b"\0" * 344 + b"oops" + b"\0" * 99))
    ),
    bad("not gzip", InputFileError, "no NIfTI file")(lambda t: bold(t).write_bytes(b"<html>not found</html>" * 30)),
    bad("empty file", InputFileError, "no NIfTI file")(lambda t: bold(t).write_bytes(b"")),
    bad("3-D image", InputFileError, "3-D", "4 x 5 x 3")(
        lambda t: nib.save(nib.Nifti1Image(make_values(1)[..., 0], AFFINE), bold(t))
    ),
    bad("complex image", InputFileError, "complex64", "real numbers")(
        lambda t: nib.save(nib.Nifti1Image(make_values(1).astype(np.complex64), AFFINE), bold(t))
    ),
    bad("singular affine", InputFileError, "cannot be inverted")(
        lambda t: bold(t).write_bytes(gzip.compress(zero(gzip.decompress(bold(t).read_bytes()), SROW_X)))
    ),
    bad("broken sidecar", InputFileError, "no JSON file")(lambda t: sidecar(t).write_text("{")),
    bad("duplicate runs", InputFileError, "two files are run-2 of sub-01", "run-02")(
        lambda t: shutil.copy(bold(t), str(bold(t)).replace("run-2", "run-02"))
    ),
    bad("a run copied", InputFileError, "same file byte by byte", "run-1", "run-2")(
        lambda t: shutil.copy(bold(t, 1), bold(t))
    ),
    bad("a link that leads nowhere", InputFileError, "is a link to", "which is not there")(
        lambda t: (bold(t).unlink(), bold(t).symlink_to(".git/annex/objects/gone.nii.gz"))
    ),
    bad("nothing there", InputFileError, "no file or folder")(lambda t: {"source": t / "nowhere"}),
    bad("empty folder", InputFileError, "no runs in a known format")(
        lambda t: (t / "empty").mkdir() or {"source": t / "empty"}
    ),
    bad("tree without runs", InputFileError, "no BOLD image")(lambda t: [p.unlink() for p in t.rglob("*_bold.nii.gz")]),
    # time
    bad("TR in milliseconds", InvalidValueError, "2000 s", "milliseconds")(
        lambda t: patch_header(t, lambda h: h.set_zooms((3, 3, 3.5, 2000)))
    ),
    bad("TR of 0", InvalidValueError, "TR", "unknown")(
        lambda t: (patch_header(t, lambda h: h.set_zooms((3, 3, 3.5, 0))), sidecar(t).unlink())
    ),
    bad("TR of header and sidecar", AlignmentError, "1.5 s", "2 s")(
        lambda t: write_sidecar(sidecar(t), tr_s=1.5, task="movie")
    ),
    bad("TR of option and header", AlignmentError, "2.5 s", "2 s", tr_s=2.5)(nothing),
    bad("TR that is no number", InputFileError, "'2 s'")(
        lambda t: sidecar(t).write_text(json.dumps({"RepetitionTime": "2 s"}))
    ),
    bad("TRs that differ between runs", AlignmentError, "1.5 s", "2 s")(
        lambda t: (
            write_bold(bold(t), make_values(5), affine=AFFINE, tr_s=1.5),
            write_sidecar(sidecar(t), tr_s=1.5, task="movie"),
        )
    ),
    bad("more dropped than there is", InvalidValueError, "40 volumes", "39 are dropped", drop_volumes=39)(nothing),
    bad("map without the run", AlignmentError, "no row for run-3", stimulus_map=Path("map.tsv"))(
        lambda t: write_rows(t / "map.tsv", ("run", "stimulus"), [("run-1", "a"), ("run-2", "b")])
    ),
    bad("map without columns", InputFileError, "no column stimulus", stimulus_map=Path("map.tsv"))(
        lambda t: write_rows(t / "map.tsv", ("run", "movie"), [("run-1", "a")])
    ),
    bad("map with words for seconds", InputFileError, "'soon'", stimulus_map=Path("map.tsv"))(
        lambda t: write_rows(t / "map.tsv", ("run", "stimulus", "onset_s"), [("run-1", "a", "soon")])
    ),
    bad("map that begins before the film", InputFileError, "'-4'", "0 s or later", stimulus_map=Path("map.tsv"))(
        lambda t: write_rows(t / "map.tsv", ("run", "stimulus", "offset_s"), [(f"run-{k}", "a", -4) for k in (1, 2, 3)])
    ),
    bad("map with a run twice", InputFileError, "second time", stimulus_map=Path("map.tsv"))(
        lambda t: write_rows(t / "map.tsv", ("run", "stimulus"), [("run-1", "a"), ("01", "b")])
    ),
    # space
    bad("a run flipped", AlignmentError, "[-3 0 0 30", "[3 0 0 -30")(lambda t: rewrite(t, make_values(5), FLIPPED)),
    bad("a run of another shape", AlignmentError, "4 x 5 x 3", "4 x 5 x 4")(
        lambda t: rewrite(t, make_values(5, shape=(4, 5, 4)))
    ),
    bad("labels of another shape", AlignmentError, "4 x 5 x 3", "4 x 5 x 4", rois=ROIS)(
        lambda t: write_labels(t / ROIS, np.ones((4, 5, 4), np.int16), affine=AFFINE, names={1: "early"})
    ),
    bad("labels flipped", AlignmentError, "[-3 0 0 30", "[3 0 0 -30", rois=ROIS)(
        lambda t: write_labels(t / ROIS, make_labels(), affine=FLIPPED, names=STREAM_NAMES)
    ),
    bad("labels that are no labels", InputFileError, "whole", rois=ROIS)(
        lambda t: nib.save(nib.Nifti1Image(np.full(SHAPE, 0.3, np.float32), AFFINE), t / ROIS)
    ),
    bad("labels all 0", InputFileError, "no label above 0", rois=ROIS)(
        lambda t: write_labels(t / ROIS, np.zeros(SHAPE, np.int16), affine=AFFINE, names={1: "early"})
    ),
    bad("names without a name", InputFileError, "no column name", rois=ROIS)(
        lambda t: write_rows(t / "streams_dseg.tsv", ("index", "label"), [(1, "early")])
    ),
    bad("no labels there", InputFileError, "no ROI label image", rois=Path("none.nii.gz"))(nothing),
    bad("empty mask", InputFileError, "no voxel above 0", mask=Path("mask.nii.gz"))(
        lambda t: nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.uint8), AFFINE), t / "mask.nii.gz")
    ),
    bad("mask of another shape", AlignmentError, "4 x 5 x 3", "2 x 2 x 2", mask=Path("mask.nii.gz"))(
        lambda t: nib.save(nib.Nifti1Image(np.ones((2, 2, 2), np.uint8), AFFINE), t / "mask.nii.gz")
    ),
    bad("mask beside all ROIs", InvalidValueError, "no voxel of the mask", mask=Path("mask.nii.gz"), rois=ROIS)(
        lambda t: nib.save(nib.Nifti1Image((make_labels() == 0).astype(np.uint8), AFFINE), t / "mask.nii.gz")
    ),
    bad("stream of an unknown ROI", UnknownNameError, "'erly'", "early", rois=ROIS, streams={"one": ["erly"]})(nothing),
    bad("grouping of other ROIs", UnknownNameError, "none of the ROIs", rois=ROIS, streams="wang2015-four")(nothing),
    bad("streams without ROIs", InvalidValueError, "no ROIs", streams={"one": ["early"]})(nothing),
    bad("no such grouping", InputFileError, "no stream grouping", rois=ROIS, streams=Path("none.toml"))(nothing),
    bad("a grouping that is no list", InvalidValueError, "'early'", rois=ROIS, streams={"one": "early"})(nothing),
    # values
    bad("constant run", InvalidValueError, "none of the 60 targets", "does not change", mask=Path("mask.nii.gz"))(
        lambda t: (
            rewrite(t, np.full((*SHAPE, 40), 7, np.int16)),
            nib.save(nib.Nifti1Image(np.ones(SHAPE, np.uint8), AFFINE), t / "mask.nii.gz"),
        )
    ),
    bad("nothing finite", InvalidValueError, "none of the 36 targets", "NaN or infinite", rois=ROIS)(
        lambda t: rewrite(t, NAN)
    ),
    bad("all runs constant", InvalidValueError, "no voxel that changes")(
        lambda t: [
            write_bold(bold(t, r), np.full((*SHAPE, 40), r, np.int16), affine=AFFINE, tr_s=2.0) for r in (1, 2, 3)
        ]
    ),
    bad("percent change of centred values", InvalidValueError, "mean of zero", standardize="psc")(
        lambda t: write_array(t, np.tile(np.sin(2 * np.pi * np.arange(20) / 5)[:, None], (2, 2)))
    ),
    # confounds
    bad("no confounds", InputFileError, "no confounds table", confounds="motion6")(lambda t: confounds(t).unlink()),
    bad("fewer confounds", AlignmentError, "38 rows", "40 volumes", confounds="motion6")(
        lambda t: write_confounds(confounds(t), make_confounds(2, n_trs=38))
    ),
    bad("more confounds", AlignmentError, "41 rows", "40 volumes", confounds="motion6")(
        lambda t: write_confounds(confounds(t), make_confounds(2, n_trs=41))
    ),
    bad("confounds with a hole", InputFileError, "'trans_y'", "row 8", confounds="motion6")(
        lambda t: write_confounds(
            confounds(t), {**make_confounds(2), "trans_y": np.where(np.arange(40) == 7, np.nan, 1)}
        )
    ),
    bad("unknown confound", UnknownNameError, "'trans_xx'", "trans_x", confounds="trans_xx")(nothing),
    bad("too few components", UnknownNameError, "needs 5", confounds="acompcor5")(
        lambda t: write_confounds(confounds(t), {k: v for k, v in make_confounds(2).items() if k in ("a_comp_cor_00",)})
    ),
    bad("confounds that leave nothing", InvalidValueError, "none of their variance", high_pass_s=4.0)(nothing),
    # options
    bad("unknown standardize", InvalidValueError, "'z'", standardize="z")(nothing),
    bad("negative high-pass", InvalidValueError, "-1", high_pass_s=-1.0)(nothing),
    bad("negative drop", InvalidValueError, "-1", drop_volumes=-1)(nothing),
    bad("no confounds named", InvalidValueError, "motion6", confounds=" , ")(nothing),
    bad("unknown format", UnknownNameError, "'bidz'", "bids", format="bidz")(nothing),
    bad("unknown subject", UnknownNameError, "sub-07", "sub-01", subjects=["07"])(nothing),
    bad("unknown task", UnknownNameError, "'moive'", "movie", task="moive")(nothing),
    bad("unknown space", UnknownNameError, "'T1w'", "native", space="T1w")(nothing),
    bad("two tasks", InvalidValueError, "movie, rest")(
        lambda t: shutil.copy(bold(t), str(bold(t)).replace("task-movie", "task-rest"))
    ),
    bad("two spaces", InvalidValueError, "T1w, native")(
        lambda t: shutil.copy(bold(t), str(bold(t)).replace("_bold", "_space-T1w_bold"))
    ),
    bad("a name for no dataset", InvalidValueError, "a/b", dataset="a/b")(nothing),
    # tables
    bad("1-D array", InputFileError, "(40,)")(lambda t: write_array(t, np.zeros(40))),
    bad("array of words", InputFileError, "<U1")(lambda t: write_array(t, np.full((9, 2), "a"))),
    bad("pickled array", InputFileError, "run-1.npy")(lambda t: write_array(t, np.full((9, 2), {}), allow_pickle=True)),
    bad("no .npy file", InputFileError, "first bytes")(
        lambda t: (t / "run-1.npy").write_bytes(b"abc") and {"source": t / "run-1.npy", "tr_s": 2.0}
    ),
    bad("no HDF5 file", InputFileError, "damaged")(
        lambda t: (t / "y.h5").write_bytes(b"abc") and {"source": t / "y.h5", "tr_s": 2.0}
    ),
    bad("HDF5 without tables", InputFileError, "no 2-D array")(
        lambda t: (
            h5py.File(t / "y.h5", "w").create_dataset("onsets", data=[1, 2]).file.close()
            or {"source": t / "y.h5", "tr_s": 2.0}
        )
    ),
    bad("ragged table", InputFileError, "between 2 and 3 cells")(lambda t: write_text(t, "a\tb\n1\t2\n1\t2\t3\n")),
    bad("word in a table", InputFileError, "row 2", "'x'")(lambda t: write_text(t, "a\tb\n1\t2\n1\tx\n")),
    bad("empty table", InputFileError, "empty")(lambda t: write_text(t, "")),
    bad("header without rows", InputFileError, "no rows")(lambda t: write_text(t, "a\tb\n")),
    bad("table without TR", InvalidValueError, "unknown")(lambda t: write_text(t, "a\tb\n1\t2\n2\t3\n", tr_s=None)),
    bad("missing TRs", AlignmentError, "from 2 to 4")(
        lambda t: write_text(t, "time\tb\n0\t2\n2\t3\n6\t3\n8\t1\n", tr_s=None)
    ),
    bad("time of another TR", AlignmentError, "2 s", "1.5 s")(lambda t: write_text(t, "time\tb\n0\t2\n1.5\t3\n3\t3\n")),
    bad("tables of other widths", AlignmentError, "2 columns", "3 columns")(
        lambda t: (
            [np.save(t / f"run-{k}.npy", np.eye(9, k)) for k in (2, 3)]
            and {"source": [t / "run-2.npy", t / "run-3.npy"], "tr_s": 2.0}
        )
    ),
]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_bad_input_is_one_sentence_with_a_hint_and_writes_nothing(case: Bad, tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "tree")
    options = {"source": tree, "dataset": "known", "store": tmp_path / "s.zarr", **case.spoil(tree)}
    source = options.pop("source")

    with pytest.raises(case.error) as caught:
        ingest(source, **options)

    error = caught.value
    for word in case.words:
        assert word in error.message, error.message
    assert error.message.endswith((".", "?"))
    assert "\n" not in error.message
    assert error.hint, error.message
    if (tmp_path / "s.zarr").exists():
        assert Store(tmp_path / "s.zarr").nodes(complete=None) == []
