"""Maps: a target is drawn where it lies, on the side where it lies, and where nothing can be drawn the page says "
"why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from map_fakes import MNI_AFFINE, fake_surface_map, fake_volume_map
from page_checks import check_page
from report_fakes import fake_partition

from brainsim.commands.report_maps import read_map
from brainsim.report.content import Content
from brainsim.report.content_maps import VolumePlaces
from brainsim.report.figures.canvas import drawing_style
from brainsim.report.figures.maps import draw_maps, tabulate_maps
from brainsim.report.figures.projections import to_canonical
from brainsim.report.figures.surfaces import N_VERTICES, NEAR_MM, can_draw, load_mesh, on_vertices, why_not
from brainsim.report.page import write_page
from brainsim.store import Store


@pytest.mark.parametrize("flip", [1, -1])
def test_volumes_are_turned_so_that_right_front_and_top_come_last(flip: int) -> None:
    affine = np.diag([2.0 * flip, 3.0, 4.0, 1.0])
    ijk = np.array([[0, 0, 0], [5, 0, 0], [0, 6, 7]])
    places = VolumePlaces(ijk, affine, (8, 9, 10))
    volume, sizes = to_canonical(np.array([1.0, 2.0, 3.0]), places)
    at = {int(volume[tuple(p)]): tuple(p) for p in np.argwhere(np.isfinite(volume))}
    xyz = places.xyz_mm
    for a in range(3):
        for b in range(3):
            # The order of places along each axis is that of millimetres to the right, the front and the top.
            for axis in range(3):
                assert np.sign(at[a + 1][axis] - at[b + 1][axis]) == np.sign(xyz[a, axis] - xyz[b, axis])
    np.testing.assert_allclose(sizes, [2, 3, 4])


def test_axes_in_another_order_are_put_in_order() -> None:
    affine = np.array([[0.0, 0, 2, 0], [3, 0, 0, 0], [0, -4, 0, 0], [0, 0, 0, 1]])
    places = VolumePlaces(np.array([[0, 0, 0], [4, 5, 6]]), affine, (7, 7, 7))
    volume, sizes = to_canonical(np.array([1.0, 2.0]), places)
    np.testing.assert_allclose(sizes, [2, 3, 4])
    (first, second) = (np.argwhere(volume == v)[0] for v in (1.0, 2.0))
    assert tuple(np.sign(second - first)) == (1, 1, -1)


def test_every_vertex_has_the_value_of_the_nearest_voxel_and_none_from_afar() -> None:
    maps = fake_volume_map()
    assert maps.volume is not None
    values = maps.values[0]
    found = on_vertices(maps, values, "left")
    xyz, mesh = maps.volume.xyz_mm, load_mesh("left")
    known = np.isfinite(values)
    for vertex in range(0, N_VERTICES, 511):
        distance = np.where(known, np.linalg.norm(xyz - mesh.middle[vertex], axis=1), np.inf)
        nearest = int(distance.argmin())
        if distance[nearest] <= NEAR_MM:
            assert found[vertex] == values[nearest]
        else:
            assert np.isnan(found[vertex])
    assert 0 < np.isfinite(found).mean() < 1


def test_fsaverage_is_drawn_by_its_first_vertices_and_other_meshes_are_not_fetched() -> None:
    whole = fake_surface_map("fsaverage", 163842)
    assert can_draw(whole)
    np.testing.assert_array_equal(
        on_vertices(whole, whole.values[0], "right"), whole.values[0, 163842 : 163842 + N_VERTICES]
    )
    for space, n in (("fsLR", 32492), ("fsnative", 135000), ("fsLR", 163842)):
        other = fake_surface_map(space, n)
        assert not can_draw(other)
        assert f"{n:,} vertices" in why_not(other)
        assert "downloaded" in why_not(other)


def test_values_of_a_map_are_in_its_table_with_their_places() -> None:
    maps = fake_volume_map("T1w")
    assert maps.volume is not None
    table = tabulate_maps(maps, key="m")
    names = [c.name for c in table.columns]
    assert names[:7] == ["target", "i", "j", "k", "x_mm", "y_mm", "z_mm"]
    row = table.rows[99]
    assert row[4:7] == pytest.approx(tuple(maps.volume.ijk[99] @ MNI_AFFINE[:3, :3].T + MNI_AFFINE[:3, 3]))
    assert row[7] == pytest.approx(maps.values[0, 99])
    assert table.rows[0][7] is None  # masked


def test_native_space_has_projections_and_no_template(tmp_path: Path) -> None:
    partition, _ = fake_partition()
    write_page(Content(partitions=(partition,), maps=(fake_volume_map("T1w"),)), tmp_path)
    assert check_page(tmp_path) == 4
    text = (tmp_path / "index.html").read_text().replace("\u00a0", " ")
    assert "in the space of the data (T1w)" in text
    assert "sub-01 (n = 1 subject of 2; each lies in a space of its own)" in text
    # The numbers of 12,000 voxels stay beside the page.
    assert 'href="tables/families-map.tsv"' in text


def test_a_mesh_that_would_have_to_be_fetched_is_told_on_the_page(tmp_path: Path) -> None:
    partition, _ = fake_partition()
    small = fake_surface_map("fsLR", 32492)
    write_page(Content(partitions=(partition,), maps=(small,)), tmp_path)
    assert (
        "a mesh of 32,492 vertices in space fsLR would have to be downloaded" in (tmp_path / "index.html").read_text()
    )
    assert not (tmp_path / "figures" / "families-map.svg").exists()


@pytest.mark.slow
def test_template_space_has_a_glass_brain_and_surfaces_and_touches_no_global_state() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    maps = fake_volume_map()
    maps = replace(maps, quantities=maps.quantities[:2], values=maps.values[:2])
    with drawing_style():
        glass, surface = draw_maps(maps, key="m")
    assert (glass.title, surface.title) == ("Through the brain", "On the cortex")
    assert "mean over n = 2 subjects" in glass.caption
    assert surface.svg.count("<image") >= 8
    # nilearn asks pyplot which backend there is, which spells its name anew.
    after = dict(matplotlib.rcParams)
    assert str(after.pop("backend")).lower() == str(before.pop("backend")).lower()
    assert after == before


def write_subject(store: Store, subject: str, *, space: str, shift: int = 0, **more: object) -> None:
    n = 12
    ijk = np.stack([np.arange(n) + shift, np.arange(n), np.zeros(n, int)], axis=1).astype(np.int32)
    attributes = {"space": space, "affine": np.diag([2.0, 2, 2, 1]).tolist(), "volume_shape": [40, 20, 5],
                  "n_targets": n, "roi_names": ["all"], "streams": {"all": ["all"]}, **more}  # fmt: skip
    membership = np.ones((1, n), np.uint8)
    arrays = {"ijk": ijk, "membership": membership}
    store.write(f"rois/d/{subject}", type="targets", key={"s": subject}, arrays=arrays, attributes=attributes)
    r = np.full(n, float(subject[-1]), np.float32)
    store.write(f"fits/f/d/{subject}", type="fit", key={"s": subject}, arrays={"r": r, "r2": r}, attributes={})


@pytest.mark.parametrize(
    ("space", "shift", "mean", "who"),
    [
        ("MNI152NLin6Asym", 0, 1.5, ("sub-1", "sub-2")),  # the same voxels: their mean
        ("MNI152NLin6Asym", 3, 1.0, ("sub-1",)),  # other voxels
        ("T1w", 0, 1.0, ("sub-1",)),  # other brains
    ],
)
def test_means_are_over_subjects_whose_targets_are_the_same_places(
    tmp_path: Path, space: str, shift: int, mean: float, who: tuple[str, ...]
) -> None:
    store = Store(tmp_path / "s.zarr", mode="a")
    write_subject(store, "sub-1", space=space)
    write_subject(store, "sub-2", space=space, shift=shift)
    index = {info.path: info for info in store.nodes()}
    maps = read_map(store, index, [index["fits/f/d/sub-1"], index["fits/f/d/sub-2"]])
    assert maps is not None
    assert (maps.subjects, maps.n_subjects, maps.values[0, 0]) == (who, 2, mean)


def test_columns_of_a_table_have_no_map(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.zarr", mode="a")
    write_subject(store, "sub-1", space="table", affine=None)
    index = {info.path: info for info in store.nodes()}
    assert read_map(store, index, [index["fits/f/d/sub-1"]]) is None


def test_vertices_of_grayordinates_are_found_among_their_structures(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.zarr", mode="a")
    # Places: 5 vertices of the left, 5 of the right cortex, 2 voxels; targets leave out the second place.
    places = np.full((12, 3), -1, np.int32)
    places[:5, 0], places[5:10, 0], places[10:] = [0, 2, 4, 6, 8], [1, 3, 5, 7, 9], [[1, 1, 1], [1, 1, 2]]
    ijk = np.delete(np.arange(12), 1)[:, None].astype(np.int32)
    structures = [
        {"name": "CIFTI_STRUCTURE_CORTEX_LEFT", "n_places": 5, "n_vertices": 10242},
        {"name": "CIFTI_STRUCTURE_CORTEX_RIGHT", "n_places": 5, "n_vertices": 10242},
        {"name": "CIFTI_STRUCTURE_THALAMUS_LEFT", "n_places": 2, "n_vertices": None},
    ]
    store.write(
        "rois/d/sub-1", type="targets", key={"a": 1},
        arrays={"ijk": ijk, "membership": np.ones((1, 11), np.uint8), "place_index": places},
        attributes={"space": "fsaverage5", "affine": None, "volume_shape": None, "n_targets": 11,
                    "structures": structures, "voxel_shape": [4, 4, 4],
                    "voxel_affine": np.eye(4).tolist()},
    )  # fmt: skip
    r = np.arange(11, dtype=np.float32)
    store.write("fits/f/d/sub-1", type="fit", key={"a": 1}, arrays={"r": r, "r2": r}, attributes={})
    index = {info.path: info for info in store.nodes()}
    maps = read_map(store, index, [index["fits/f/d/sub-1"]])
    assert maps is not None
    np.testing.assert_array_equal(maps.surfaces["left"].vertices, [0, 4, 6, 8])
    np.testing.assert_array_equal(maps.surfaces["right"].vertices, [1, 3, 5, 7, 9])
    np.testing.assert_array_equal(maps.values[0, maps.surfaces["right"].rows], [4, 5, 6, 7, 8])
