"""`brainsim rsa --rdms`: stimulus sets against a peer's numbers on real data, and against planted truth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from brainsim import report, rsa
from brainsim.core.errors import BrainsimError
from brainsim.rsa.rdm import to_square
from brainsim.store import Store


def write_layer(store: Path, model: str, layer: str, index: int, values: np.ndarray, stimulus: str = "set") -> None:
    n = len(values)
    Store(store, mode="a").write(
        f"activations/{model}@00000000/{layer}/{stimulus}",
        type="activations",
        key={"model": model, "layer": layer, "stimulus": stimulus},
        arrays={
            "values": values.reshape(n, -1).astype(np.float32),
            "time_s": np.arange(1.0, n + 1),
            "window_s": np.stack([np.arange(n), np.arange(1, n + 1)], axis=1).astype(float),
        },
        attributes={"model": model, "layer": layer, "layer_index": index, "family": "test", "stimulus": stimulus},
    )


@pytest.fixture
def image78(shared_dir: Path) -> Path:
    return shared_dir / "data" / "image78"


def test_peers_numbers_of_real_data_from_files(image78: Path, tmp_path: Path) -> None:
    summary = rsa(
        "peer",
        dataset="image78",
        store=tmp_path / "s.zarr",
        rdms={roi: (str(image78 / f"fmri_{roi}_RDMs.npz"),) for roi in ("EVC", "IT")},
        model_rdms={"resnet18": (str(image78 / "case1_layer4.1.bn2_rdm.npy"),)},
        squared=True,
        raw_ceiling=True,
        n_bootstraps=20,
    )
    expected = {
        "EVC": (0.0006886062445416333, 0.006817660885847111, 0.06397469419484077),
        "IT": (0.0018402013413235168, 0.002784925615650058, 0.0647332511659806),
    }
    for row, ceiling in zip(summary.rows, summary.ceilings, strict=True):
        found = (row["mean"], ceiling["lower"], ceiling["upper"])
        np.testing.assert_allclose(found, expected[row["stream"]], atol=1e-6)
        np.testing.assert_allclose(found, expected[row["stream"]], rtol=1e-9)


def test_rdm_of_stored_real_features_is_the_peers(image78: Path, tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    features = np.load(image78 / "resnet18_layer4_features.npz")["features"]
    write_layer(store, "resnet18", "layer4", 0, features)
    np.save(tmp_path / "peer.npy", to_square(np.load(image78 / "resnet18_layer4_rdm_pearson.npy").astype(float)))
    summary = rsa(
        "self",
        dataset="x",
        store=store,
        rdms={"peer": (str(tmp_path / "peer.npy"),)},
        compare="pearson",
        n_bootstraps=0,
    )
    assert summary.rows[0]["mean"] == pytest.approx(1, abs=1e-6)
    # And within 1e-4 entry by entry, as stored: the RDM that was compared.
    from brainsim.commands.rsa_condition_models import model_rdms_of

    found = model_rdms_of(
        Store(store), models=("*",), files={}, conditions=(), distance="correlation", n_stimuli=78
    ).rdms[0]
    np.testing.assert_allclose(found, np.load(image78 / "resnet18_layer4_rdm_pearson.npy"), atol=1e-4)


def test_pixels_of_92_objects(shared_dir: Path, tmp_path: Path) -> None:
    """The told 0.036 and 0.063 are those of colour pixels at 32 x 32, Pillow's default resizing."""
    image = pytest.importorskip("PIL.Image")
    loadmat = pytest.importorskip("scipy.io").loadmat
    folder = shared_dir / "data" / "objects92"
    stimuli = loadmat(folder / "Kriegeskorte_Neuron2008_supplementalData.mat")["stimuli_92objs"][0]
    small = np.stack([np.asarray(image.fromarray(s["image"]).resize((32, 32))) for s in stimuli])
    store = tmp_path / "s.zarr"
    write_layer(store, "pixels", "pixels", 0, small)
    write_layer(store, "grey", "pixels", 0, np.stack([np.mean(s["image"], axis=2) for s in stimuli]))
    words: dict[str, Any] = {
        "dataset": "objects92",
        "store": store,
        "rdms": {roi: (str(folder / "cichy" / f"fmri_{roi}_RDMs.npz"),) for roi in ("EVC", "IT")},
        "n_bootstraps": 50,
    }
    summary = rsa("objects", **words)
    scores = {(row["model"], row["stream"]): round(row["mean"], 3) for row in summary.rows}
    assert (scores["pixels", "EVC"], scores["pixels", "IT"]) == (0.036, 0.063)
    assert (scores["grey", "EVC"], scores["grey", "IT"]) == (0.018, 0.049)
    linear = rsa("linear", **words, compare="pearson").ceilings  # the told ceilings are Pearson's
    ceilings = {c["stream"]: (round(c["lower"], 2), round(c["upper"], 2)) for c in linear}
    assert ceilings == {"EVC": (0.25, 0.40), "IT": (0.46, 0.55)}
    page = report(store=store, out=tmp_path / "page")
    assert {Path(f).stem for f in page.figures} >= {"objects-similarity"}


def planted(seed: int, n: int = 40, n_subjects: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Return RDMs of four layers and of subjects that follow the second and the fourth."""
    rng = np.random.default_rng(seed)
    from brainsim.rsa.rdm import pattern_rdm

    layers = np.stack([pattern_rdm(rng.standard_normal((n, 10)), distance="correlation", name="x") for _ in range(4)])
    truth = layers[1] + 0.7 * layers[3]
    return layers, truth + 0.5 * truth.std() * rng.standard_normal((n_subjects, len(truth))) + 1


def test_combined_layers_are_scored_among_stimuli_that_were_held_out(tmp_path: Path) -> None:
    layers, brains = planted(0)
    np.save(tmp_path / "layers.npy", to_square(layers))
    np.save(tmp_path / "brains.npy", to_square(np.abs(brains)))
    words: dict[str, Any] = {
        "dataset": "x",
        "store": tmp_path / "s.zarr",
        "rdms": {"IT": (str(tmp_path / "brains.npy"),)},
        "model_rdms": {"net": (str(tmp_path / "layers.npy"),)},
        "n_bootstraps": 0,
    }
    summary = rsa("both", **words)
    (row,) = summary.rows
    assert row["mean"] > 0.7
    assert row["q"] < 0.01
    ridge = rsa("ridge", **words, combine="ridge")
    assert ridge.rows[0]["mean"] == pytest.approx(row["mean"], abs=0.1)
    again = rsa("both", **words)
    assert (again.n_nodes_written, again.n_nodes_reused) == (0, 7)


def test_one_subject_has_a_p_only_beside_an_interval(tmp_path: Path) -> None:
    """A bootstrap of stimuli speaks of other stimuli for this subject; held-out parts alone would speak of nobody."""
    layers, brains = planted(0)
    np.save(tmp_path / "layers.npy", to_square(layers))
    np.save(tmp_path / "one.npy", to_square(layers[1]))
    np.save(tmp_path / "brain.npy", to_square(np.abs(brains[0])))
    files = {"net": (str(tmp_path / "layers.npy"),), "one": (str(tmp_path / "one.npy"),)}
    words: dict[str, Any] = {"dataset": "x", "store": tmp_path / "s.zarr", "compare": "pearson", "model_rdms": files}
    words["rdms"] = {"IT": (str(tmp_path / "brain.npy"),)}
    drawn = rsa("drawn", **words, n_bootstraps=50)
    for row in drawn.rows:
        assert all(row[name] is not None for name in ("low", "high", "p", "q"))
        assert row["p_subjects"] is None
    assert {row["model"]: row["scored_on"] for row in drawn.rows} == {
        "net": "pairs of held-out stimuli", "one": "all pairs",
    }  # fmt: skip
    (compared,) = Store(tmp_path / "s.zarr").info("rsa/drawn/x/group").attributes["comparisons"]
    assert compared["low"] < compared["mean"] < compared["high"]
    assert compared["p"] is not None
    for row in rsa("not-drawn", **words, n_bootstraps=0).rows:
        assert [row[name] for name in ("low", "p", "q")] == [None] * 3
    assert any(warning.startswith("One subject: ") for warning in drawn.warnings)


def test_files_of_every_kind_give_the_same(tmp_path: Path) -> None:
    from brainsim.commands.rsa_files import read_rdms

    rng = np.random.default_rng(1)
    pairs = rng.random(45)
    square = to_square(pairs)
    np.save(tmp_path / "a.npy", square)
    np.save(tmp_path / "b.npy", pairs)
    np.savez(tmp_path / "c.npz", rdms=square[None], other=1)
    np.savetxt(tmp_path / "d.csv", square, delimiter=",")
    lines = ["\t".join(["", *map(str, range(10))])]
    lines += ["\t".join([f"image{i}", *(repr(float(x)) for x in row)]) for i, row in enumerate(square)]
    (tmp_path / "e.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name in ("a.npy", "b.npy", "c.npz", "d.csv", "e.tsv"):
        np.testing.assert_allclose(read_rdms([tmp_path / name], name=name), pairs[None], atol=1e-12)


def write_v73(path: Path, squares: np.ndarray) -> None:
    """Write what MATLAB's save -v7.3 makes of an array, and of a struct array like the RSA toolbox's."""
    with h5py.File(path, "w", userblock_size=512) as file:
        file["flat"] = squares[0].T
        references = file.create_dataset("RDMs/RDM", (len(squares), 1), dtype=h5py.ref_dtype)
        for row, square in enumerate(squares):
            file[f"#refs#/{row}"] = square.T
            references[row, 0] = file[f"#refs#/{row}"].ref


def test_matlab_files_of_both_kinds_give_the_same(tmp_path: Path) -> None:
    from brainsim.commands.rsa_files import read_rdms

    pairs = np.random.default_rng(1).random((3, 45))
    squares = to_square(pairs)
    struct = np.zeros((1, 3), dtype=[("RDM", object), ("name", object)])
    for row in range(3):
        struct["RDM"][0, row] = squares[row]
    savemat(tmp_path / "struct.mat", {"RDMs": struct, "labels": np.array(["a"], object), "flat": squares[0]})
    savemat(tmp_path / "cube.mat", {"rdms": np.moveaxis(squares, 0, 2), "other": np.eye(3)})
    savemat(tmp_path / "vectors.mat", {"rdms": pairs})
    write_v73(tmp_path / "new.mat", squares)
    for name in ("struct.mat", "cube.mat", "vectors.mat", "new.mat"):
        np.testing.assert_allclose(read_rdms([tmp_path / name], name=name), pairs, atol=1e-12)
    for name in ("struct.mat", "new.mat"):
        np.testing.assert_allclose(read_rdms([f"{tmp_path / name}:flat"], name=name), pairs[:1], atol=1e-12)


def test_real_matlab_files_of_92_objects(shared_dir: Path) -> None:
    from brainsim.commands.rsa_files import read_rdms

    folder = shared_dir / "data" / "objects92"
    brains = read_rdms([folder / "92_brainRDMs.mat"], name="hIT")
    assert brains.shape == (8, 92 * 91 // 2)
    assert np.corrcoef(brains)[np.triu_indices(8, k=1)].min() > 0  # 4 people, twice each, are alike
    figure = read_rdms([folder / "Kriegeskorte_Neuron2008_supplementalData.mat"], name="IT")
    assert np.corrcoef(figure)[0, 1] == pytest.approx(0.49, abs=0.05)  # monkey and human, as published


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (lambda path: path.write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200)), "cannot be read as a MATLAB file"),
        (lambda path: savemat(path, {"a": np.eye(3), "b": np.eye(3)}), "holds 2 variables that may be RDMs"),
        (lambda path: savemat(path, {"text": "words"}), "holds 0 variables"),
    ],
)
def test_bad_matlab_files_are_told(tmp_path: Path, write: Callable[[Path], object], told: str) -> None:
    from brainsim.commands.rsa_files import read_rdms

    write(tmp_path / "x.mat")
    with pytest.raises(BrainsimError, match=told):
        read_rdms([tmp_path / "x.mat"], name="IT")
    savemat(tmp_path / "y.mat", {"a": np.eye(3)})
    with pytest.raises(BrainsimError, match="no RDMs called 'b'"):
        read_rdms([f"{tmp_path / 'y.mat'}:b"], name="IT")


def test_a_matlab_file_cannot_lead_to_another_file(tmp_path: Path) -> None:
    from brainsim.commands.rsa_files import read_rdms

    write_v73(tmp_path / "secret.mat", to_square(np.ones((1, 3))))
    with h5py.File(tmp_path / "x.mat", "w") as file:
        file["rdms"] = h5py.ExternalLink("secret.mat", "/flat")
    with pytest.raises(BrainsimError, match="link to elsewhere"):
        read_rdms([tmp_path / "x.mat"], name="IT")


@pytest.mark.parametrize(
    ("name", "values", "told"),
    [
        ("x.npy", np.eye(12), "diagonal"),
        ("x.npy", np.full((12, 12), np.nan), "not finite"),
        ("x.npy", np.zeros((2, 44)), "44 pairs"),
        ("x.npy", np.zeros((6, 6)), "6 stimuli; a bootstrap"),
        ("x.pkl", None, "is a .pkl file"),
        ("gone.npy", None, "no file of RDMs"),
    ],
)
def test_bad_files_are_told(tmp_path: Path, name: str, values: np.ndarray | None, told: str) -> None:
    path = tmp_path / name
    if values is not None:
        np.save(path, values)
    elif name != "gone.npy":
        path.write_bytes(b"x")
    with pytest.raises(BrainsimError, match=told):
        rsa("bad", dataset="x", store=tmp_path / "s.zarr", rdms={"IT": (str(path),)}, model_rdms={"m": (str(path),)})
    assert not (tmp_path / "s.zarr" / "rsa").exists()


def test_files_alone_are_compared_in_a_store_that_holds_movies(tmp_path: Path) -> None:
    layers, brains = planted(0)
    np.save(tmp_path / "layers.npy", to_square(layers))
    np.save(tmp_path / "brains.npy", to_square(np.abs(brains)))
    words: dict[str, Any] = {
        "dataset": "x",
        "rdms": {"IT": (str(tmp_path / "brains.npy"),)},
        "model_rdms": {"net": (str(tmp_path / "layers.npy"),)},
        "n_bootstraps": 0,
    }
    alone = rsa("files", store=tmp_path / "empty.zarr", **words)
    store = tmp_path / "movies.zarr"
    for movie in ("movie1", "movie2"):
        write_layer(store, "videomae-base", "block.0", 0, np.random.default_rng(1).random((300, 5)), movie)
    among_movies = rsa("files", store=store, **words)
    assert {row["model"] for row in among_movies.rows} == {"net"}
    assert among_movies.rows == alone.rows
    # Stored models are compared beside files where they are asked for.
    write_layer(store, "pixels", "pixels", 0, np.random.default_rng(2).random((40, 5)), "set")
    beside = rsa("beside", store=store, **words, conditions=("set",), models=("pixels",))
    assert {row["model"] for row in beside.rows} == {"pixels", "net"}
    with pytest.raises(BrainsimError, match="which are the conditions"):
        rsa("beside", store=store, **words, models=("pixels", "videomae-base"))
    with pytest.raises(BrainsimError, match="no store at"):
        rsa("beside", store=tmp_path / "none.zarr", **words, models=("pixels",))


def test_rows_that_are_not_the_brains_stimuli_are_told(tmp_path: Path) -> None:
    _, brains = planted(0)
    np.save(tmp_path / "brains.npy", to_square(np.abs(brains)))
    for stimulus, n in (("set", 30), ("other", 40)):
        write_layer(tmp_path / "s.zarr", "m", "l", 0, np.random.default_rng(0).random((n, 5)), stimulus)
    words: dict[str, Any] = {
        "dataset": "x",
        "store": tmp_path / "s.zarr",
        "rdms": {"IT": (str(tmp_path / "brains.npy"),)},
        "n_bootstraps": 0,
    }
    with pytest.raises(BrainsimError, match="which are the conditions"):
        rsa("a", **words)
    with pytest.raises(BrainsimError, match="has 30 rows for set; the brains' RDMs have 40 stimuli"):
        rsa("a", **words, conditions=("set",))
    assert rsa("a", **words, conditions=("other",)).n_layers == 1
