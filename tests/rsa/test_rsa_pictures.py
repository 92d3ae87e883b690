"""RDMs that are kept to be looked at: pictures are means of pairs, likeness is that of all RDMs pair by pair."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from brainsim.rsa.pictures import average_subjects, choose_pairs, picture, rows_per_pixel, similarity_of_all


def test_a_picture_is_the_mean_of_the_pairs_of_each_pixel() -> None:
    rng = np.random.default_rng(0)
    n = 23
    i, j = np.triu_indices(n, k=4)  # near pairs are left out
    rdm = rng.normal(size=len(i)).astype(np.float32)
    found = picture(rdm, i, j, n, max_pixels=8)
    step = rows_per_pixel(n, max_pixels=8)
    assert (step, found.shape) == (3, (8, 8))
    for row, column in np.ndindex(found.shape):
        inside = [
            float(v)
            for v, a, b in zip(rdm, i, j, strict=True)
            for x, y in ((a, b), (b, a))
            if (x // step, y // step) == (row, column)
        ]
        if inside:
            assert found[row, column] == pytest.approx(np.mean(inside), abs=1e-6)
        else:
            assert np.isnan(found[row, column])


def test_an_rdm_that_fits_is_pictured_as_it_is() -> None:
    i, j = np.triu_indices(5, k=1)
    rdm = np.arange(10.0)
    found = picture(rdm, i, j, 5)
    np.testing.assert_array_equal(found[i, j], rdm)
    np.testing.assert_array_equal(found[j, i], rdm)
    assert np.isnan(found.diagonal()).all()


def test_likeness_is_the_mean_over_blocks_of_every_pair_of_rdms() -> None:
    rng = np.random.default_rng(1)
    A = [rng.normal(size=(3, 40)).astype(np.float32) for _ in range(2)]
    Y = [rng.normal(size=(4, 40)) for _ in range(2)]
    averaged = [average_subjects(y, ["a", "b", "a", "b"]) for y in Y]
    z = (Y[0] - Y[0].mean(1, keepdims=True)) / Y[0].std(1, keepdims=True)
    np.testing.assert_allclose(averaged[0][1], (z[1] + z[3]) / 2, atol=1e-6)
    found, used = similarity_of_all(A, averaged, "kendall")
    assert used == "spearman"
    both = [np.concatenate([a, m]) for a, m in zip(A, averaged, strict=True)]
    for row, column in np.ndindex(5, 5):
        expected = np.mean([spearmanr(b[row], b[column]).statistic for b in both])
        assert found[row, column] == pytest.approx(expected, abs=1e-5)


def test_of_many_pairs_as_many_are_taken_as_tell_how_alike_rdms_are() -> None:
    rng = np.random.default_rng(3)
    common = rng.normal(size=300_000)
    A = (0.5 * common + rng.normal(size=(2, 300_000))).astype(np.float32)
    found, _ = similarity_of_all([A], [A[:1]], "pearson")
    whole = np.corrcoef(A[0], A[1])[0, 1]
    assert found[0, 1] == pytest.approx(whole, abs=0.005)
    again, _ = similarity_of_all([A], [A[:1]], "pearson")
    np.testing.assert_array_equal(found, again)
    chosen = choose_pairs(300_000)
    assert not isinstance(chosen, slice)
    assert len(np.unique(chosen)) == 200_000


def test_the_command_keeps_pictures_and_the_page_draws_them(tmp_path: Path) -> None:
    from brainsim.commands.report import report
    from brainsim.commands.rsa import rsa
    from brainsim.store import Store

    rng = np.random.default_rng(2)
    brains = np.abs(rng.normal(size=(4, 66)))
    models = {"m": np.abs(rng.normal(size=(1, 66))), "n": np.abs(rng.normal(size=(1, 66)))}
    for name, rdms in {"EVC": brains, **models}.items():
        np.save(tmp_path / f"{name}.npy", rdms)
    files = {name: [str(tmp_path / f"{name}.npy")] for name in ("EVC", *models)}
    rsa("geo", dataset="d", store=tmp_path / "s.zarr", rdms={"EVC": files.pop("EVC")}, model_rdms=files, n_bootstraps=0)
    store = Store(tmp_path / "s.zarr", mode="r")
    info = store.info("pictures/geo/d")
    assert [p["name"] for p in info.attributes["pictured"]] == ["EVC", "m: rdm-1", "n: rdm-1"]
    pictures = store.read(info.path, "picture")
    i, j = np.triu_indices(12, k=1)
    own = models["m"][0]
    np.testing.assert_allclose(pictures[1][i, j], (own - own.mean()) / own.std(), atol=1e-5)
    summary = report(store=store.path, out=tmp_path / "out")
    assert {"geo-rdms", "geo-mds"} <= {Path(f).stem for f in summary.figures}
    assert "pairs of 12 stimuli" in Path(summary.page).read_text()
