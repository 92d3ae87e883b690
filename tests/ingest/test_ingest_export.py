"""Ingested runs, ROIs and scores go back into images, on the very voxels, vertices and grayordinates of the files."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from ingest_trees import N_TRS, SHAPE, STREAM_NAMES, make_confounds, make_labels, make_values
from numpy.testing import assert_allclose, assert_array_equal

from brainsim.commands.ingest import ingest
from brainsim.commands.store_export import store_export
from brainsim.commands.store_tables import read_tables
from brainsim.core.errors import AlignmentError, BrainsimError, InvalidValueError, UnknownNameError
from brainsim.datasets.bids_write import write_bold, write_confounds, write_labels
from brainsim.datasets.cifti import CiftiSignal
from brainsim.datasets.runs import same_grid
from brainsim.store import Store

sys.path.append(str(Path(__file__).resolve().parent.parent / "datasets"))
import surface_files as known

TR_S = 1.5
RAW: dict[str, Any] = {"standardize": "none", "high_pass_s": None}
FLIPPED = np.array([[-3.0, 0, 0, 30], [0, 3, 0, -50], [0, 0, 3.5, -10], [0, 0, 0, 1]])


def oblique() -> np.ndarray:
    """Return an affine whose axes are swapped, flipped and turned: no axis of the array is one of the scanner's."""
    a, b = 0.3, -0.2
    turn = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    tilt = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    swap = np.array([[0, 0, 1], [-1, 0, 0], [0, 1, 0]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ tilt @ swap @ np.diag([2.0, 2.5, 3.0])
    affine[:3, 3] = [-41.3, 17.9, 60.2]
    return affine


def ingest_volumes(folder: Path, affine: np.ndarray, **options: Any) -> Store:
    for run in (1, 2):
        write_bold(folder / f"run-{run}.nii.gz", make_values(run), affine=affine, tr_s=TR_S)
    write_labels(folder / "labels.nii.gz", make_labels(), affine=affine, names=STREAM_NAMES)
    files = [folder / f"run-{run}.nii.gz" for run in (1, 2)]
    options = {"rois": folder / "labels.nii.gz", "subjects": ["01"], **RAW, **options}
    ingest(files, dataset="d", store=folder / "s.zarr", **options)
    return Store(folder / "s.zarr")


def export(store: Store, prefix: str, out: Path) -> list[Path]:
    done = store_export(prefix, out, store=store.path, format="images")
    files = [out / file for node in done.nodes for file in node["files"]]
    written = [path for path in out.rglob("*") if path.is_file() and path.name != "node.json"]
    assert sorted(files) == sorted(written)
    return files


@pytest.mark.parametrize("affine", [FLIPPED, oblique()], ids=["flipped", "oblique"])
def test_runs_of_volumes_land_on_the_voxels_of_their_files(tmp_path: Path, affine: np.ndarray) -> None:
    store = ingest_volumes(tmp_path, affine)

    export(store, "bold/d", tmp_path / "out")

    inside = make_labels() > 0
    for run in (1, 2):
        raw = make_values(run).astype(float)
        back = nib.load(tmp_path / f"out/bold/d/sub-01/run-{run}/values.nii.gz")
        assert_allclose(back.affine, nib.load(tmp_path / f"run-{run}.nii.gz").affine, atol=1e-6)
        assert_allclose(back.header.get_zooms(), (*nib.affines.voxel_sizes(affine), TR_S), atol=1e-6)
        values = back.get_fdata()
        assert_allclose(values[inside], (raw - raw.mean(axis=-1, keepdims=True))[inside], atol=1e-3)
        assert np.isnan(values[~inside]).all()


def test_what_was_exported_is_ingested_again_as_it_was(tmp_path: Path) -> None:
    store = ingest_volumes(tmp_path, oblique())
    export(store, "bold/d/*/run-1", tmp_path / "out")
    back = tmp_path / "out/bold/d/sub-01/run-1/values.nii.gz"
    again = {"dataset": "again", "store": tmp_path / "again.zarr", "rois": tmp_path / "labels.nii.gz", **RAW}
    ingest(back, subjects=["01"], **again)
    second = Store(tmp_path / "again.zarr")
    assert_allclose(
        second.read(second.nodes("bold")[0].path, "values"), store.read("bold/d/sub-01/run-1", "values"), atol=1e-3
    )
    for array in ("ijk", "membership"):
        assert_array_equal(second.read("rois/again/sub-01", array), store.read("rois/d/sub-01", array))


def test_runs_of_grayordinates_land_on_their_vertices_and_voxels(tmp_path: Path) -> None:
    files = [known.write_series(tmp_path / f"run-{run}.dtseries.nii", known.make_series(run, 20)) for run in (1, 2)]
    labels = np.random.default_rng(0).integers(0, 3, known.N_PLACES)
    known.write_dense_labels(tmp_path / "a.dlabel.nii", labels, {1: "V1", 2: "MT"})
    ingest(files, dataset="d", store=tmp_path / "s.zarr", rois=tmp_path / "a.dlabel.nii", subjects=["01"], **RAW)

    export(Store(tmp_path / "s.zarr"), "bold/d", tmp_path / "out")

    for run, file in enumerate(files, start=1):
        back = CiftiSignal(tmp_path / f"out/bold/d/sub-01/run-{run}/values.dtseries.nii")
        assert same_grid(back.grid, CiftiSignal(file).grid)
        series = known.make_series(run, 20).astype(float)
        places = np.flatnonzero(labels)
        assert_allclose(back.read(places), (series - series.mean(axis=0))[:, places], atol=1e-3)
        assert np.isnan(back.read(np.flatnonzero(labels == 0))).all()


def test_runs_of_surfaces_land_on_their_vertices(tmp_path: Path) -> None:
    series = known.make_series(3, 20, 2 * known.N_VERTICES)
    series[:, [2, 15]] = 0  # the medial wall
    known.write_pair(tmp_path / "lh.run-1.func.gii", tmp_path / "rh.run-1.func.gii", series)
    ingest(tmp_path, dataset="d", store=tmp_path / "s.zarr", subjects=["01"], tr_s=2.0, **RAW)

    files = export(Store(tmp_path / "s.zarr"), "bold/d", tmp_path / "out")

    left, right = (next(f for f in files if f.name == f"values_hemi-{side}.func.gii") for side in "LR")
    back = np.concatenate([[a.data for a in nib.load(side).darrays] for side in (left, right)], axis=1)
    expected = (series - series.mean(axis=0, dtype=float)).astype(np.float32)
    expected[:, [2, 15]] = np.nan
    assert_allclose(back, expected, atol=1e-3)
    assert nib.load(left).meta["AnatomicalStructurePrimary"] == "CortexLeft"


def make_results(store: Store) -> None:
    """Write a fit and a partition of random scores, as the commands write them."""
    targets, runs = store.info("rois/d/sub-01"), store.nodes("bold/d/sub-01", type="bold")
    n = targets.arrays["ijk"][0][0]
    rng = np.random.default_rng(0)
    made = {"data": [targets.digest, *(run.digest for run in runs)]}
    sources = ["kernels/0a1b2c3d4e5f6a7b", targets.path, *(run.path for run in runs)]
    kept = [int(store.read(run.path, "kept").sum()) if "kept" in run.arrays else N_TRS for run in runs]

    def scores(*shape: int) -> np.ndarray:
        return rng.normal(size=(*shape, n)).astype(np.float32)

    r2 = scores()
    r2[5] = np.nan
    Store(store.path, "a").write(
        "fits/a/d/sub-01",
        type="fit",
        key=made,
        arrays={
            "r2": r2, "r": scores(), "p": scores(), "r2_folds": scores(2), "layer_r2": scores(2),
            "predicted": scores(sum(kept)), "dual_weights": scores(sum(kept), 2), "roi_n_targets": np.arange(4),
        },
        attributes={
            "folds": ["run-1", "run-2"],
            "layers": [{"model": "m", "layer": "a.0"}, {"model": "m", "layer": "a.1"}],
            "runs": [[run.attributes["run"], k] for run, k in zip(runs, kept, strict=True)],
            "sources": sources,
        },
    )  # fmt: skip
    Store(store.path, "a").write(
        "partitions/a/d/sub-01",
        type="partition",
        key=made,
        arrays={"subset_r2": scores(3), "unique": scores(2), "parts": scores(3)},
        attributes={
            "families": ["static", "dynamic"],
            "subsets": [["static"], ["dynamic"], ["static", "dynamic"]],
            "parts": [["static"], ["dynamic"], ["static", "dynamic"]],
            "sources": sources,
        },
    )
    Store(store.path, "a").write("partitions/a/d/group", type="partition-group", key={}, arrays={}, attributes={})


def maps_of(path: Path) -> tuple[np.ndarray, list[str]]:
    """Return maps, (n_maps, n_places inside), and their names."""
    data = nib.load(path).get_fdata()
    with path.with_name(path.name.replace(".nii.gz", ".tsv")).open() as file:
        names = [row["name"] for row in csv.DictReader(file, delimiter="\t")]
    return data[make_labels() > 0].T, names


def test_scores_become_maps_on_the_voxels_of_the_runs(tmp_path: Path) -> None:
    store = ingest_volumes(tmp_path, oblique())
    make_results(store)

    export(store, "fits/a", tmp_path / "out")

    fit = tmp_path / "out/fits/a/d/sub-01"
    inside = make_labels() > 0
    r2 = nib.load(fit / "r2.nii.gz")
    assert r2.shape == SHAPE
    assert_allclose(r2.affine, nib.load(tmp_path / "run-1.nii.gz").affine, atol=1e-6)
    assert_array_equal(r2.get_fdata(dtype=np.float32)[inside], store.read("fits/a/d/sub-01", "r2"))
    for array, named in (("r2_folds", ["run-1", "run-2"]), ("layer_r2", ["m/a.0", "m/a.1"])):
        values, names = maps_of(fit / f"{array}.nii.gz")
        assert names == named
        assert_array_equal(values, store.read("fits/a/d/sub-01", array))
    assert not (fit / "dual_weights.nii.gz").exists()


def test_parts_of_a_partition_become_maps_with_the_names_of_families(tmp_path: Path) -> None:
    store = ingest_volumes(tmp_path, FLIPPED)
    make_results(store)

    files = export(store, "partitions/a", tmp_path / "out")

    assert {file.parent.name for file in files} == {"sub-01"}  # the group's result has no targets
    subsets = ["static", "dynamic", "static+dynamic"]
    for array, named in (("unique", ["static", "dynamic"]), ("parts", subsets), ("subset_r2", subsets)):
        values, names = maps_of(tmp_path / f"out/partitions/a/d/sub-01/{array}.nii.gz")
        assert names == named
        assert_array_equal(values, store.read("partitions/a/d/sub-01", array))


def test_predictions_become_a_series_per_run_with_scrubbed_trs_in_their_place(tmp_path: Path) -> None:
    for run in (1, 2):
        write_confounds(tmp_path / f"run-{run}_desc-confounds_timeseries.tsv", make_confounds(run))
    store = ingest_volumes(tmp_path, FLIPPED, scrub="fd>0.8")
    make_results(store)

    export(store, "fits/a", tmp_path / "out")

    predicted, first = store.read("fits/a/d/sub-01", "predicted"), 0
    for run in (1, 2):
        image = nib.load(tmp_path / f"out/fits/a/d/sub-01/predicted_run-{run}.nii.gz")
        kept = store.read(f"bold/d/sub-01/run-{run}", "kept").astype(bool)
        assert 0 < (~kept).sum() < N_TRS
        assert (image.shape, image.header.get_zooms()[3]) == ((*SHAPE, N_TRS), TR_S)
        series = image.get_fdata()[make_labels() > 0].T
        assert_array_equal(series[kept], predicted[first : first + kept.sum()])
        assert np.isnan(series[~kept]).all()
        first += int(kept.sum())


def test_ceilings_and_rois_become_maps(tmp_path: Path) -> None:
    (tmp_path / "map.tsv").write_text("run\tstimulus\nrun-1\tfilm\nrun-2\tfilm\n")
    store = ingest_volumes(tmp_path, FLIPPED, stimulus_map=tmp_path / "map.tsv")

    export(store, "rois/d", tmp_path / "out")

    inside = make_labels() > 0
    for array in ("explainable_variance", "reliability", "ceiling"):
        image = nib.load(tmp_path / f"out/rois/d/sub-01/{array}.nii.gz")
        assert_array_equal(image.get_fdata(dtype=np.float32)[inside], store.read("rois/d/sub-01", array))
    rois, names = maps_of(tmp_path / "out/rois/d/sub-01/membership.nii.gz")
    assert names == list(STREAM_NAMES.values())
    assert_array_equal(rois, [make_labels()[inside] == label for label in STREAM_NAMES])


def test_maps_of_grayordinates_carry_their_names(tmp_path: Path) -> None:
    file = known.write_series(tmp_path / "run-1.dtseries.nii", known.make_series(1, N_TRS))
    ingest(file, dataset="d", store=tmp_path / "s.zarr", subjects=["01"], **RAW)
    store = Store(tmp_path / "s.zarr")
    make_results_of_one(store)
    export(store, "partitions", tmp_path / "out")
    image = nib.load(tmp_path / "out/partitions/a/d/sub-01/unique.dscalar.nii")
    assert list(image.header.get_axis(0).name) == ["static", "dynamic"]
    assert_array_equal(image.get_fdata(dtype=np.float32), store.read("partitions/a/d/sub-01", "unique"))


def test_tables_tell_where_targets_lie_in_the_scanner(tmp_path: Path) -> None:
    store = ingest_volumes(tmp_path, oblique())
    make_results(store)
    targets = read_tables("fits/a", store=store.path)["targets"]
    places = np.argwhere(make_labels() > 0)
    assert_array_equal(targets[["i", "j", "k"]].to_numpy(), places)
    assert_allclose(
        targets[["x_mm", "y_mm", "z_mm"]].to_numpy(), nib.affines.apply_affine(oblique(), places), atol=1e-4
    )
    labels = make_labels()[tuple(places.T)]
    assert targets["rois"].tolist() == [STREAM_NAMES[label] for label in labels]


def test_tables_tell_structure_and_vertex_or_voxel_of_grayordinates(tmp_path: Path) -> None:
    file = known.write_series(tmp_path / "run-1.dtseries.nii", known.make_series(1, N_TRS))
    ingest(file, dataset="d", store=tmp_path / "s.zarr", subjects=["01"], **RAW)
    store = Store(tmp_path / "s.zarr")
    make_results_of_one(store)
    tables = read_tables("partitions/a", store=store.path)
    targets = tables["targets"]
    left, right = (targets[targets["structure"].str.contains(side)] for side in ("LEFT$", "RIGHT$"))
    left = left[left["vertex"].notna()]
    assert left["vertex"].tolist() == known.LEFT_VERTICES.tolist()
    assert right["vertex"].tolist() == list(range(known.N_VERTICES))
    voxels = targets[targets["vertex"].isna()]
    assert_array_equal(voxels[["i", "j", "k"]].to_numpy(dtype=int), known.VOXELS)
    assert_array_equal(voxels[["x_mm", "y_mm", "z_mm"]].to_numpy(dtype=float), 2.0 * known.VOXELS)
    assert targets["x_mm"].isna().sum() == len(left) + len(right)
    assert set(targets["rois"]) == {"all"}  # without ROIs there is one of everything
    assert len(tables["targets_unique"]) == known.N_PLACES


def test_tables_of_a_table_count_its_columns(tmp_path: Path) -> None:
    table(tmp_path)
    targets = read_tables("rois/d", store=tmp_path / "s.zarr")["targets"]
    assert targets["column"].tolist() == list(range(6))
    assert "x_mm" not in targets


def make_results_of_one(store: Store) -> None:
    targets = store.info("rois/d/sub-01")
    unique = np.random.default_rng(1).normal(size=(2, known.N_PLACES)).astype(np.float32)
    Store(store.path, "a").write(
        "partitions/a/d/sub-01",
        type="partition",
        key={"data": [targets.digest]},
        arrays={"subset_r2": unique, "unique": unique},
        attributes={"families": ["static", "dynamic"], "sources": [targets.path]},
    )


def other_targets(folder: Path) -> str:
    """Ingest again with fewer ROIs: the results are of the old targets."""
    store = ingest_volumes(folder, FLIPPED)
    make_results(store)
    labels = np.where(make_labels() == 4, 0, make_labels()).astype(np.int16)
    write_labels(folder / "fewer.nii.gz", labels, affine=FLIPPED, names={1: "early", 2: "ventral", 3: "lateral"})
    ingest_volumes(folder, FLIPPED, rois=folder / "fewer.nii.gz", overwrite=True)
    return "fits/a"


def same_number(folder: Path) -> str:
    """Ingest again with as many targets elsewhere."""
    store = ingest_volumes(folder, FLIPPED)
    make_results(store)
    labels = np.ascontiguousarray(make_labels()[:, ::-1])
    assert (labels > 0).sum() == (make_labels() > 0).sum()
    write_labels(folder / "other.nii.gz", np.roll(labels, 1, axis=1), affine=FLIPPED, names=STREAM_NAMES)
    ingest_volumes(folder, FLIPPED, rois=folder / "other.nii.gz", overwrite=True)
    return "partitions/a"


def no_targets(folder: Path) -> str:
    store = ingest_volumes(folder, FLIPPED)
    make_results(store)
    Store(store.path, "a").delete("rois/d/sub-01")
    return "fits/a"


def table(folder: Path) -> str:
    np.save(folder / "run-1.npy", np.random.default_rng(0).normal(size=(20, 6)))
    ingest(folder / "run-1.npy", dataset="d", store=folder / "s.zarr", tr_s=2.0)
    return "bold/d"


def kernels(folder: Path) -> str:
    arrays = {"K": np.eye(3, dtype=np.float32)}
    Store(folder / "s.zarr", "a").write("kernels/0a", type="kernel", key={}, arrays=arrays, attributes={})
    return "kernels"


@pytest.mark.parametrize(
    ("make", "error", "words", "hint"),
    [
        (other_targets, AlignmentError, "has 36 targets and was made before rois/d/sub-01", "--overwrite"),
        (same_number, AlignmentError, "was made before rois/d/sub-01", "--overwrite"),
        (no_targets, UnknownNameError, "which the store does not hold", "store ls"),
        (table, InvalidValueError, "nowhere in space", "--format npy"),
        (kernels, InvalidValueError, "holds none of them .kernel.", "fits/NAME"),
    ],
)
def test_what_has_no_place_is_refused_and_nothing_is_written(
    tmp_path: Path, make: Any, error: type[BrainsimError], words: str, hint: str
) -> None:
    prefix = make(tmp_path)
    with pytest.raises(error, match=words) as refused:
        store_export(prefix, tmp_path / "out", store=tmp_path / "s.zarr", format="images")
    assert hint in str(refused.value.hint)
    assert not (tmp_path / "out").exists()
