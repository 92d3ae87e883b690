"""Features that other programs made: the numbers of their files, at the times that are said, or a named error."""

from __future__ import annotations

import errno
import json
import pickle
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from brainsim import store_import
from brainsim.core.errors import (
    AlignmentError,
    BrainsimError,
    InputFileError,
    InvalidValueError,
    MissingDependencyError,
    NumericalError,
)
from brainsim.core.seeds import named_rng
from brainsim.features.foreign_folders import open_sources
from brainsim.store import Store

X = named_rng(0, "import").standard_normal((12, 3, 2)).astype(np.float32)
STIMULI = sorted(f"image_{i}.jpg" for i in range(12))  # as a folder of them: image_10 after image_1


def write_pt(path: Path, value: Any) -> None:
    torch.save(value, path)


def write_h5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["blocks/0"] = X
        file["blocks/1"] = X.astype(np.float64) * 2


FILES: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "layer1.npy": (lambda path: np.save(path, X), ["layer1"]),
    "two.npz": (lambda path: np.savez_compressed(path, a=X, b=X * 2), ["a", "b"]),
    "two.h5": (write_h5, ["blocks.0", "blocks.1"]),
    "layer1.pt": (lambda path: write_pt(path, torch.from_numpy(X)), ["layer1"]),
    "two.pt": (lambda path: write_pt(path, {"a": torch.from_numpy(X), "b": torch.from_numpy(X * 2)}), ["a", "b"]),
    "brain.pt": (lambda path: write_pt(path, torch.from_numpy(X).bfloat16().float().bfloat16()), ["brain"]),
}


def take(*sources: Path, **options: Any) -> Any:
    words: dict[str, Any] = {"model": "clip", "stimulus": "movie1", "step_s": 2.0}
    return store_import(sources, **{**words, "store": sources[0].parent / "s.zarr", **options})


@pytest.mark.parametrize("name", FILES)
def test_arrays_of_every_kind_of_file_are_taken_in(tmp_path: Path, name: str) -> None:
    write, layers = FILES[name]
    write(tmp_path / name)
    done = take(tmp_path / name)
    assert [row["layer"] for row in done.layers] == layers
    store = Store(tmp_path / "s.zarr")
    for index, row in enumerate(done.layers):
        values = store.read(row["node"], "values")
        tolerance = 0.01 if name == "brain.pt" else 0
        np.testing.assert_allclose(values, X.reshape(12, 6) * (index + 1), rtol=tolerance)
        info = store.info(row["node"])
        assert info.type == "activations"
        assert info.attributes["shape"] == [3, 2]
        assert info.attributes["layer_index"] == index
        assert len(next(iter(info.key["files"].values()))) == 64
        np.testing.assert_array_equal(store.read(row["node"], "time_s"), 2.0 * np.arange(1, 13))
        np.testing.assert_array_equal(store.read(row["node"], "window_s")[:2], [[0, 2], [2, 4]])
    assert (done.n_nodes_written, done.first_s, done.last_s) == (len(layers), 0, 24)
    again = take(tmp_path / name)
    assert (again.n_nodes_written, again.n_nodes_reused) == (0, len(layers))
    assert json.loads(json.dumps(asdict(again)))


def test_large_arrays_are_taken_in_block_by_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brainsim.features.foreign.BLOCK_BYTES", 50)
    for name, (write, _) in FILES.items():
        write(tmp_path / name)
        done = take(tmp_path / name, model=name.replace(".", "-"))
        values = Store(tmp_path / "s.zarr").read(done.layers[0]["node"], "values")
        np.testing.assert_allclose(values, X.reshape(12, 6), rtol=0.01 if name == "brain.pt" else 0)


def net2brain(folder: Path) -> Path:
    folder.mkdir()
    for name, row in zip(STIMULI, X, strict=True):
        np.savez_compressed(folder / f"{name}.npz", layer10=row[None] * 2, layer2=row[None])
    return folder


def net2brain_layers(folder: Path) -> Path:
    folder.mkdir()
    for layer, scale in (("layer10", 2), ("layer2", 1)):
        np.savez(folder / f"{layer}.npz", **{name: row[None] * scale for name, row in zip(STIMULI, X, strict=True)})
    return folder


def thingsvision(folder: Path) -> Path:
    for layer, scale in (("layer10", 2), ("layer2", 1)):
        (folder / layer).mkdir(parents=True)
        np.save(folder / layer / "features_0-5.npy", X[:5] * scale)
        np.save(folder / layer / "features_5-12.npy", X[5:] * scale)
    (folder / "file_names.txt").write_text("\n".join(STIMULI))
    return folder


def thingsvision_whole(folder: Path) -> Path:
    for layer, scale in (("layer10", 2), ("layer2", 1)):
        (folder / layer).mkdir(parents=True)
        torch.save(torch.from_numpy(X * scale), folder / layer / "features.pt")
    return folder


def test_layers_of_different_stimuli_are_not_the_same_rows(tmp_path: Path) -> None:
    folder = tmp_path / "features"
    folder.mkdir()
    for layer, word in (("layer1", "img"), ("layer2", "pic")):
        np.savez(folder / f"{layer}.npz", **{f"{word}{k}": X[k : k + 1] for k in (1, 9, 10)})
    with pytest.raises(InputFileError, match="not of the same stimuli: img1, img9, img10, pic1"):
        open_sources([folder], layout="net2brain-layers")


def test_tensors_that_numpy_does_not_know_are_named(tmp_path: Path) -> None:
    odd = {
        "eight": torch.zeros(3, 4).to(torch.float8_e4m3fn),
        "empty": torch.zeros(3, 4, device="meta"),
    }
    for name, tensor in odd.items():
        torch.save({name: tensor}, tmp_path / f"{name}.pt")
        with pytest.raises(InputFileError, match=name):
            open_sources([tmp_path / f"{name}.pt"])


@pytest.mark.parametrize("make", [net2brain, net2brain_layers, thingsvision, thingsvision_whole])
def test_folders_of_other_extractors_are_told_apart(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    folder = make(tmp_path / "features")
    done = take(folder, step_s=None, per_stimulus=True)
    assert [row["layer"] for row in done.layers] == ["layer2", "layer10"]
    store = Store(tmp_path / "s.zarr")
    for row, scale in zip(done.layers, (1, 2), strict=True):
        np.testing.assert_array_equal(store.read(row["node"], "values"), X.reshape(12, 6) * scale)
        np.testing.assert_array_equal(store.read(row["node"], "time_s"), np.arange(1.0, 13.0))
        named = store.info(row["node"]).attributes.get("row_names")
        if make is not thingsvision_whole:
            assert named == STIMULI
    assert not done.warnings


def test_a_list_of_images_in_another_order_is_warned_about(tmp_path: Path) -> None:
    folder = thingsvision(tmp_path / "features")
    (folder / "file_names.txt").write_text("\n".join(f"image_{i}.jpg" for i in range(12)))
    done = take(folder, step_s=None, per_stimulus=True)
    assert len(done.warnings) == 1
    assert "row 2 of layer2 is 'image_2'" in done.warnings[0]
    assert "it would be 'image_10'" in done.warnings[0]


def test_what_only_the_user_can_know_must_be_said(tmp_path: Path) -> None:
    folder = tmp_path / "features"
    folder.mkdir()
    for name in ("one", "two"):
        np.savez(folder / f"{name}.npz", x=X[:1], y=X[:1])
    with pytest.raises(InputFileError, match="names do not tell"):
        take(folder)
    assert [a.name for a in open_sources([folder], layout="net2brain")] == ["x", "y"]
    assert [a.name for a in open_sources([folder], layout="net2brain-layers")] == ["one", "two"]
    np.save(tmp_path / "x.npy", X)
    for options in ({"step_s": None}, {"step_s": 1.0, "per_stimulus": True}):
        with pytest.raises(InvalidValueError, match="exactly one of --step-s, --times and --per-stimulus"):
            take(tmp_path / "x.npy", **options)


@pytest.mark.parametrize("text", ["features_5-13.npy", "features_12-12.npy", "features_6-12.npy"])
def test_parts_whose_names_lie_are_refused(tmp_path: Path, text: str) -> None:
    folder = thingsvision(tmp_path / "features")
    (folder / "layer2/features_5-12.npy").rename(folder / "layer2" / text)
    with pytest.raises(InputFileError, match="missing or mislabelled"):
        take(folder)


def test_rows_that_the_list_of_images_does_not_have_are_refused(tmp_path: Path) -> None:
    folder = thingsvision(tmp_path / "features")
    (folder / "file_names.txt").write_text("\n".join(STIMULI[:-1]))
    with pytest.raises(InputFileError, match=r"12 rows; file_names\.txt lists 11 images"):
        take(folder)


def npz_with_names(path: Path) -> None:
    np.savez(path, layer1=X, image_names=np.array(STIMULI), labels=np.array([{"a": 1}] * 12, object))


def h5_with_names(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["layer1"] = X
        file["image_names"] = STIMULI  # strings of any length
        file["labels"] = np.array(STIMULI, "S12")
        file["nothing"] = h5py.Empty("f4")


def pt_with_names(path: Path) -> None:
    torch.save({"layer1": torch.from_numpy(X), "image_names": STIMULI, "epoch": 3}, path)


@pytest.mark.parametrize(
    ("name", "write"), [("x.npz", npz_with_names), ("x.h5", h5_with_names), ("x.pt", pt_with_names)]
)
def test_what_is_no_features_may_lie_beside_them_and_is_refused_where_it_is_asked_for(
    tmp_path: Path, name: str, write: Callable[[Path], None]
) -> None:
    write(tmp_path / name)
    done = take(tmp_path / name, layers=["layer*"])
    np.testing.assert_array_equal(Store(tmp_path / "s.zarr").read(done.layers[0]["node"], "values"), X.reshape(12, 6))
    for layers in (["*"], ["image_names"]):
        with pytest.raises(InputFileError, match=r"holds (a list under )?'image_names'") as error:
            take(tmp_path / name, layers=layers)
        assert "--layers leaves arrays out" in str(error.value.hint)


@pytest.mark.parametrize("failure", ["values that are not finite", "a full disk", "a kill"])
def test_what_is_overwritten_stays_until_the_new_features_are_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    from brainsim.store import layout, writer

    monkeypatch.setattr(layout, "CHUNK_ROWS", 4)
    monkeypatch.setattr(layout, "MIN_CHUNK_BYTES", 1)
    np.save(tmp_path / "x.npy", X)
    (row,) = take(tmp_path / "x.npy").layers
    bad = X + 1
    if failure == "values that are not finite":
        bad[-1, 0, 0] = np.nan
    np.save(tmp_path / "x.npy", bad)
    put = writer.put

    def put_some(path: str, partial: str, *parts: bytes) -> int:
        if path.endswith("values/c/2/0"):
            raise KeyboardInterrupt if failure == "a kill" else OSError(errno.ENOSPC, "No space left on device")
        return put(path, partial, *parts)

    with monkeypatch.context() as patch:
        if failure != "values that are not finite":
            patch.setattr(writer, "put", put_some)
        with pytest.raises((BrainsimError, KeyboardInterrupt)):
            take(tmp_path / "x.npy", overwrite=True)
    store = Store(tmp_path / "s.zarr")
    np.testing.assert_array_equal(store.read(row["node"], "values"), X.reshape(12, 6))
    assert store.verify() == []
    np.save(tmp_path / "x.npy", X + 1)
    assert take(tmp_path / "x.npy", overwrite=True).n_nodes_written == 1
    np.testing.assert_array_equal(Store(tmp_path / "s.zarr").read(row["node"], "values"), (X + 1).reshape(12, 6))
    assert store.verify() == []
    del store
    assert not (tmp_path / "s.zarr/.locks").exists()


def test_a_first_import_that_fails_leaves_nothing(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.full((4, 2), np.nan))
    with pytest.raises(NumericalError, match="must be finite"):
        take(tmp_path / "x.npy", overwrite=True)
    assert Store(tmp_path / "s.zarr").nodes(complete=None) == []


def test_a_start_beside_a_table_of_times_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "t.npy", np.arange(1.0, 13.0))
    with pytest.raises(InvalidValueError, match=r"--start-s is 3 s, but --times .* says when each row was"):
        take(tmp_path / "x.npy", step_s=None, times=tmp_path / "t.npy", start_s=3.0)


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("trapped"),)


def linked_h5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("x", (4, 4), "f4", external=[(str(path.with_name("secret")), 0, 64)])


def npz_with_a_stranger(path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("run.py", "1")


@pytest.mark.parametrize(
    ("name", "write", "said"),
    [
        ("x.npy", lambda path: np.save(path, np.array([[Trap()]], object)), "x.npy is no whole .npy file of numbers"),
        ("x.npz", lambda path: np.savez(path, a=np.array([[Trap()]], object)), "no Python objects are ever loaded"),
        ("x.pt", lambda path: torch.save(Trap(), path), "more than tensors"),
        ("x.pt", lambda path: path.write_bytes(pickle.dumps(Trap())), "more than tensors|no whole"),
        ("x.pt", lambda path: torch.save({"a": torch.ones(2, 2), "b": 3}, path), "holds a int under 'b'"),
        ("x.h5", linked_h5, "lies in other files"),
        ("x.npz", npz_with_a_stranger, "holds 'run.py', which is no array"),
        ("x.npy", lambda path: path.write_bytes(b""), "no whole"),
        ("x.npz", lambda path: path.write_bytes(b"PK\x03\x04"), "no whole"),
        ("x.h5", lambda path: path.write_bytes(b"\x89HDF"), "no whole"),
        ("x.npy", lambda path: np.save(path, np.array([["a", "b"]])), "real numbers are wanted"),
        ("x.npy", lambda path: np.save(path, np.ones((2, 2), complex)), "real numbers are wanted"),
        ("x.npy", lambda path: np.save(path, np.ones(5)), r"has shape \(5,\)"),
        ("x.txt", lambda path: path.write_text("1 2"), "none of the files that are read"),
    ],
)
def test_files_are_data_and_never_run(
    tmp_path: Path, name: str, write: Callable[[Path], object], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_bytes(bytes(64))
    write(tmp_path / name)
    with pytest.raises(BrainsimError, match=said):
        take(tmp_path / name)
    assert not (tmp_path / "trapped").exists()
    assert not (tmp_path / "s.zarr").exists()


@pytest.mark.parametrize(
    ("value", "options", "said"),
    [
        (np.nan, {}, "row 7, feature 3 .* is nan"),
        (np.inf, {}, "row 7, feature 3 .* is inf"),
        (1e6, {"dtype": "float16"}, "reaches 1e.06; float16 ends at 65504"),
        (1e300, {}, "float32 ends at"),
    ],
)
def test_values_that_are_no_features_leave_no_node(tmp_path: Path, value: float, options: dict, said: str) -> None:
    values = X.astype(np.float64)
    values[7, 1, 1] = value
    np.save(tmp_path / "x.npy", values)
    with pytest.raises(NumericalError, match=said):
        take(tmp_path / "x.npy", **options)
    assert Store(tmp_path / "s.zarr").nodes(complete=None) == []


def test_tensors_are_not_read_by_a_torch_that_can_be_tricked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(torch.from_numpy(X), tmp_path / "x.pt")
    monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
    with pytest.raises(MissingDependencyError, match=r"torch 2\.5\.1\+cpu, which can be made to run"):
        take(tmp_path / "x.pt")


def test_times_come_from_a_table(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    end = np.arange(12) * 1.5 + 1
    np.savetxt(tmp_path / "ends.csv", end)
    np.savetxt(tmp_path / "windows.tsv", np.stack([end - 1, end], 1), delimiter="\t")
    np.save(tmp_path / "late.npy", end[::-1])
    one = take(tmp_path / "x.npy", step_s=None, times=tmp_path / "ends.csv")
    store = Store(tmp_path / "s.zarr")
    np.testing.assert_allclose(store.read(one.layers[0]["node"], "window_s")[:2], [[-0.5, 1], [1, 2.5]])
    two = take(tmp_path / "x.npy", step_s=None, times=tmp_path / "windows.tsv", model="other")
    np.testing.assert_allclose(store.read(two.layers[0]["node"], "window_s")[:2], [[0, 1], [1.5, 2.5]])
    with pytest.raises(InvalidValueError, match="not finite and increasing"):
        take(tmp_path / "x.npy", step_s=None, times=tmp_path / "late.npy")
    np.save(tmp_path / "few.npy", end[:5])
    with pytest.raises(AlignmentError, match="12 x 1"):
        take(tmp_path / "x.npy", step_s=None, times=tmp_path / "few.npy")


def test_a_movie_that_the_store_knows_is_in_the_key_and_odd_lengths_are_told(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    Store(tmp_path / "s.zarr", "a").write(
        "stimuli/movie1", type="stimulus", key={"stimulus": "abc"}, arrays={"frame_time_s": np.arange(24.0)},
        attributes={"duration_s": 24.0},
    )  # fmt: skip
    done = take(tmp_path / "x.npy")
    assert done.warnings == ()
    assert Store(tmp_path / "s.zarr").info(done.layers[0]["node"]).key["stimulus"] == "abc"
    assert "rows end at 48.0 s; movie1 lasts 24.0 s" in take(tmp_path / "x.npy", step_s=4.0, model="slow").warnings[0]


def test_other_files_under_the_same_name_are_refused_and_layers_may_be_chosen_and_renamed(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=X, b=X * 2, labels=np.arange(12))
    with pytest.raises(InputFileError, match=r"shape \(12,\)"):
        take(tmp_path / "x.npz")
    done = take(tmp_path / "x.npz", layers=["a", "b"], names=["early", "late"])
    assert [row["layer"] for row in done.layers] == ["early", "late"]
    np.savez(tmp_path / "x.npz", a=X + 1, b=X * 2)
    with pytest.raises(InvalidValueError, match="made otherwise"):
        take(tmp_path / "x.npz", names=["early", "late"])
    assert take(tmp_path / "x.npz", names=["early", "late"], overwrite=True).n_nodes_written == 2
    with pytest.raises(BrainsimError, match="no array of the files matches 'c'"):
        take(tmp_path / "x.npz", layers=["c"])
    np.save(tmp_path / "short.npy", X[:5])
    with pytest.raises(AlignmentError, match="different numbers of rows"):
        take(tmp_path / "x.npz", tmp_path / "short.npy")


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    planned = take(tmp_path / "x.npy", dry_run=True)
    assert (planned.n_nodes_written, planned.nbytes, planned.layers[0]["state"]) == (1, X.nbytes, "missing")
    assert not (tmp_path / "s.zarr").exists()


def test_a_peers_features_of_real_images_are_taken_in_and_give_the_peers_rdm(tmp_path: Path, shared_dir: Path) -> None:
    from brainsim.rsa.rdm import correlation_rdm

    data = shared_dir / "data/image78"
    features = np.load(data / "resnet18_layer4_features.npz")["features"]
    folder = tmp_path / "features"
    folder.mkdir()
    for index, row in enumerate(features):  # as Net2Brain saves them
        np.savez_compressed(folder / f"image_{index + 1:02d}.jpg.npz", layer4=row[None])
    options = {"store": tmp_path / "s.zarr", "stimulus": "image78", "step_s": None, "per_stimulus": True}
    done = take(folder, model="resnet18", **options)
    same = take(data / "resnet18_layer4_features.npz", model="again", names=["layer4"], **options)
    store = Store(tmp_path / "s.zarr")
    values = store.read(done.layers[0]["node"], "values")
    np.testing.assert_array_equal(values, features.reshape(78, -1))
    np.testing.assert_array_equal(values, store.read(same.layers[0]["node"], "values"))
    assert store.info(done.layers[0]["node"]).attributes["row_names"][9] == "image_10.jpg"
    peer = np.load(data / "resnet18_layer4_rdm_pearson.npy")
    rdm = correlation_rdm(values, name="layer4")
    rdm = rdm[np.triu_indices(78, 1)] if rdm.ndim == 2 else rdm
    np.testing.assert_allclose(rdm, peer, atol=1e-4)
