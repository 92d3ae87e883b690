"""Stimulus sets on the page: RDMs from files, and betas, told as stimuli and not as clips, runs and TRs."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from page_checks import check_page

from brainsim.commands.ingest import ingest
from brainsim.commands.report import report
from brainsim.commands.rsa import rsa
from brainsim.rsa.rdm import to_square
from brainsim.store import Store

N = 24


def write_features(
    store: Path, stimulus: str, *, models: tuple[tuple[str, int], ...] = (("cnn", 2), ("pixels", 1))
) -> None:
    """Write models of stored images, with so many layers, dated as extract dates them."""
    rng = np.random.default_rng(0)
    opened = Store(store, mode="a")
    begin = np.arange(N, dtype=float)
    for model, n_layers in models:
        for layer in range(n_layers):
            opened.write(
                f"activations/{model}@00000000/layer{layer}/{stimulus}",
                type="activations",
                key={"model": model, "layer": layer},
                arrays={
                    "values": rng.normal(size=(N, 12)).astype(np.float32),
                    "time_s": begin + 1,
                    "window_s": np.stack([begin, begin + 1], axis=1),
                },
                attributes={
                    "model": model, "layer": f"layer{layer}", "layer_index": layer, "family": model,
                    "stimulus": stimulus, "step_s": 1.0, "clip_window": "trailing",
                },
            )  # fmt: skip


def page_of(store: Path, out: Path) -> str:
    report(store=store, out=out)
    check_page(out)
    return (out / "index.html").read_text().replace("\u00a0", " ").replace("&#39;", "'")


def systems_of(out: Path) -> list[dict[str, str]]:
    with (out / "tables" / "systems.tsv").open() as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_rdms_from_files_are_told_with_their_stimuli_and_subjects(tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    write_features(store, "objects")
    rng = np.random.default_rng(1)
    np.save(tmp_path / "evc.npy", np.stack([to_square(rng.random(N * (N - 1) // 2)) for _ in range(3)]))
    files = {"EVC": (str(tmp_path / "evc.npy"),)}
    rsa("objects", dataset="objects24", store=store, rdms=files, conditions=("objects",), n_bootstraps=20)
    text = page_of(store, tmp_path / "page")
    assert "3 subjects, 24 stimuli: RDMs from files, of EVC." in text
    assert "dissimilarity of the 24 stimuli by correlation distance" in text
    for wrong in ("clip every", "clip windows", "TRs", "held-out runs", "haemodynamic", "protocol"):
        assert wrong not in text[: text.index('id="references"')], wrong
    assert "step_s" not in systems_of(tmp_path / "page")[0]


def test_similarities_that_see_zero_say_why_they_have_no_chance(tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    write_features(store, "objects")
    rng = np.random.default_rng(1)
    np.save(tmp_path / "evc.npy", np.stack([to_square(rng.random(N * (N - 1) // 2)) for _ in range(3)]))
    files = {"EVC": (str(tmp_path / "evc.npy"),)}
    rsa("cos", dataset="x", store=store, rdms=files, conditions=("objects",), n_bootstraps=0, compare="cosine")
    text = page_of(store, tmp_path / "page")
    caption = text[text.index('<figure id="cos-similarity">') : text.index("</figcaption>")]
    assert "Unrelated RDMs have a cosine above 0" in caption
    assert "Stars" not in caption


def test_systems_of_one_layer_without_draws_have_chances_over_subjects_alone(tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    write_features(store, "objects", models=(("pixels", 1), ("edges", 1)))
    rng = np.random.default_rng(1)
    np.save(tmp_path / "evc.npy", np.stack([to_square(rng.random(N * (N - 1) // 2)) for _ in range(3)]))
    files = {"EVC": (str(tmp_path / "evc.npy"),)}
    rsa("one", dataset="x", store=store, rdms=files, conditions=("objects",), n_bootstraps=0)
    text = " ".join(page_of(store, tmp_path / "page").split())
    with (tmp_path / "page" / "tables" / "one-similarity.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert all(row["p"] == "n/a" and float(row["p_subjects"]) > 0 and float(row["q_subjects"]) > 0 for row in rows)
    assert "Chances of these stimuli alone, over subjects, are in the table; of others none is known." in text
    assert "nothing was tested" not in text
    assert "all pairs of stimuli (systems have one layer each)" in text
    assert "Systems of one layer were compared over all pairs of stimuli." in text
    assert "it speaks of these very stimuli" in text
    assert "over 1 pair of systems and streams; 0 are. Subjects are random effects." in text
    for wrong in ("Layers of a system were combined", "Satterthwaite", "Stars"):
        assert wrong not in text[: text.index('id="references"')], wrong


def test_betas_are_stimuli_and_no_trs(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    (tmp_path / "betas").mkdir()
    for subject in (1, 2):
        betas = rng.normal(size=(1, N, 30)).astype(np.float32)
        np.save(tmp_path / "betas" / f"sub-0{subject}_run-1.npy", betas)
    store = tmp_path / "s.zarr"
    ingest(tmp_path / "betas", dataset="nsd", store=store, format="betas")
    opened = Store(store)
    write_features(store, opened.info(opened.nodes("bold", type="bold")[0].path).attributes["stimulus"])
    rsa("b", dataset="nsd", store=store, n_bootstraps=0)
    text = page_of(store, tmp_path / "page")
    assert "2 subjects, 1 run each, 24 stimuli per run, one response per stimulus (betas); 30 targets" in text
    methods = text[text.index('id="methods"') : text.index('id="rsa-b-nsd"')]
    for wrong in ("TR", "clip every", "haemodynamic"):
        assert wrong not in methods, wrong
    assert "each stimulus is one row of features" in methods
