"""Claims and accuracies on the page: answers in words, every number as TSV, a figure, and what is out of date."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from claims_store import write_rsa, write_targets
from planted_scores import plant_scores

from brainsim.commands.accuracy import accuracy
from brainsim.commands.claims import claims
from brainsim.commands.report import report
from brainsim.store import Store


def rows_of(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / "tables" / name).open() as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "s.zarr"
    scores = plant_scores("hold", 0)
    store = Store(path, mode="a")
    write_targets(store, scores)
    write_rsa(store, scores)
    claims("study", dataset="d", store=path)
    accuracy("opening", dataset="d", store=path)
    return path


def test_the_page_has_answers_tests_and_a_scatter_with_their_numbers(path: Path, tmp_path: Path) -> None:
    summary = report(store=path, out=tmp_path / "page")
    text = (tmp_path / "page" / "index.html").read_text()
    assert "Image MAEs correspond little to any stream." in text
    assert "Declared before: level 0.05 after Holm" in text
    assert "not tested" in text
    assert any("What was claimed before" in section for section in summary.sections)
    answers = rows_of(tmp_path / "page", "study-answers.tsv")
    kept = Store(path).info("claims/study/d").attributes["answers"]
    assert [row["answer"] for row in answers] == [row["answer"] for row in kept]
    assert float(answers[0]["q_for"]) == pytest.approx(kept[0]["q_for"], rel=1e-5)
    drawn = rows_of(tmp_path / "page", "opening-accuracy-geometry.tsv")
    assert {row["model"] for row in drawn} == {"cnn-static-object", "mae-base-finetuned", "videomae-base-finetuned"}
    svg = (tmp_path / "page" / "figures" / "opening-accuracy-geometry.svg").read_text()
    assert "videomae-base-finetuned" in svg
    assert "Published top-1 accuracy (%)" in svg
    correlations = rows_of(tmp_path / "page", "opening-correlations.tsv")
    assert correlations[-1]["stream"] == "mean of streams"


def test_answers_from_results_that_have_changed_since_are_marked(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.zarr", mode="a")
    scores = plant_scores("hold", 0)
    write_targets(store, scores)
    write_rsa(store, scores)
    claims("study", dataset="d", store=tmp_path / "s.zarr")
    info = store.info("rsa/geometry/d/sub-01")
    arrays = {name: store.read(info.path, name) + 0.5 for name in info.arrays}
    store.write(info.path, type="rsa", key={"new": 1}, arrays=arrays, attributes=info.attributes, overwrite=True)
    report(store=tmp_path / "s.zarr", out=tmp_path / "page")
    assert "Results have changed since these answers were given" in (tmp_path / "page" / "index.html").read_text()


def test_answers_from_other_results_than_are_shown_are_left_out_and_that_is_told(path: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(path, tmp_path / "s.zarr")
    store = Store(tmp_path / "s.zarr", mode="a")
    for info in store.nodes("rsa/geometry/"):  # another result, of which no claim speaks
        arrays = {name: store.read(info.path, name) for name in info.arrays}
        other = info.path.replace("geometry", "other")
        sources = [s.replace("geometry", "other") for s in info.attributes.get("sources", [])]
        attributes = {**info.attributes, "sources": sources}
        store.write(other, type=info.type, key={"other": info.path}, arrays=arrays, attributes=attributes)
    report(store=tmp_path / "s.zarr", out=tmp_path / "page", rsas=["other"])
    text = (tmp_path / "page" / "index.html").read_text()
    assert "Image MAEs correspond little to any stream." not in text
    left_out = "made from other results than are shown here were left out: accuracy/opening/d and claims/study/d."
    assert left_out in text
    report(store=tmp_path / "s.zarr", out=tmp_path / "all")
    assert "left out" not in (tmp_path / "all" / "index.html").read_text()
    report(store=tmp_path / "s.zarr", out=tmp_path / "both", rsas=["other", "geometry"])
    assert "Image MAEs correspond little to any stream." in (tmp_path / "both" / "index.html").read_text()
    # Of a result on the page, whose group is not told since a subject has come since.
    group = next(info for info in store.nodes("rsa/geometry/") if info.path.endswith("/group"))
    attributes = {**group.attributes, "sources": ["rsa/geometry/d/gone"]}
    store.delete(group.path)
    store.write(group.path, type=group.type, key=group.key, arrays={}, attributes=attributes)
    report(store=tmp_path / "s.zarr", out=tmp_path / "stale", rsas=["geometry"])
    text = (tmp_path / "stale" / "index.html").read_text()
    assert "made from other subjects than there are now" in text
    assert "Image MAEs correspond little to any stream." in text
    # Nothing that they were made from is there any more: they are not of what was chosen.
    for info in store.nodes("rsa/geometry/"):
        store.delete(info.path)
    report(store=tmp_path / "s.zarr", out=tmp_path / "gone", rsas=["other"])
    assert left_out in (tmp_path / "gone" / "index.html").read_text()
    report(store=tmp_path / "s.zarr", out=tmp_path / "none")
    text = (tmp_path / "none" / "index.html").read_text()
    assert "Results have changed since these answers were given" in text
    assert "Image MAEs correspond little to any stream." in text
