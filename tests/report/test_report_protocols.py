"""Two protocols of one RSA, made by the command, on one page: scores, conclusions, steps, pairs and residuals."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest
from page_checks import check_page

from brainsim.commands.report import report
from brainsim.commands.rsa import rsa
from brainsim.store import Store

sys.path.append(str(Path(__file__).resolve().parent.parent / "rsa"))

from rsa_store import MODELS, write_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_store(tmp_path_factory.mktemp("both") / "s.zarr", n_trs=[40, 44, 38], protocols=("default", "study"))
    rsa("two", dataset="toy", store=path, protocol="both", subsets="all")
    return path


@pytest.fixture(scope="module")
def folder(store: Path) -> Path:
    out = store.parent / "page"
    report(store=store, out=out)
    return out


def rows_of(folder: Path, key: str) -> list[dict[str, str]]:
    with (folder / "tables" / f"{key}.tsv").open() as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_the_page_of_both_protocols_is_whole(folder: Path) -> None:
    check_page(folder)
    keys = {p.stem for p in (folder / "figures").iterdir()}
    assert {
        "two-protocols",
        "two-rdm-venn",
        "two-study-pairs",
        "two-study-residuals",
        "two-rdms",
        "two-study-mds",
    } <= keys


def test_the_audit_on_the_page_is_that_of_the_store(store: Path, folder: Path) -> None:
    opened = Store(store, mode="r")
    kept = opened.info("audits/two/toy").attributes
    steps = rows_of(folder, "two-steps")
    assert [r["step"] for r in steps] == [s["quirk"] for s in kept["steps"]]
    for row, step in zip(steps, kept["steps"], strict=True):
        assert not step["not_stored"]
        assert int(row["n_conclusions"]) == sum(step["quirk"] in c["changed_by"] for c in kept["changed"])
    scores = {(r["stream"], r["system"], r["protocol"]): float(r["score"]) for r in rows_of(folder, "two-protocols")}
    for protocol, name in (("default", "two"), ("study", "two-study")):
        for row in opened.info(f"rsa/{name}/toy/group").attributes["rows"]:
            assert scores[row["stream"], row["model"], protocol] == pytest.approx(row["mean"], rel=1e-5)


def test_parts_of_rdm_variance_on_the_page_are_those_of_the_group(store: Path, folder: Path) -> None:
    kept = Store(store, mode="r").info("rsa/two/toy/group").attributes
    rows = {(r["stream"], r["families"]): r for r in rows_of(folder, "two-rdm-parts")}
    assert len(rows) == 2 * (2 ** len(MODELS) - 1)
    for part in kept["parts"]:
        told = [
            r
            for (s, families), r in rows.items()
            if s == part["stream"] and set(families.split(" + ")) == set(part["families"])
        ]
        assert float(told[0]["part_r2"]) == pytest.approx(part["mean"], rel=1e-4, abs=1e-8)
    unique = {(r["stream"], r["family"]): r for r in rows_of(folder, "two-rdm-unique")}
    for row in kept["unique"]:
        if row["quantity"] == "unique":
            # What each subject has by its own node is what the group was made from.
            subjects = [float(unique[row["stream"], row["family"]][f"subject_sub-0{i}"]) for i in (1, 2, 3)]
            assert subjects == pytest.approx(row["subjects"], rel=1e-3, abs=1e-6)
    pairs = {(r["stream"], r["a"], r["b"]): r for r in rows_of(folder, "two-rdm-comparisons")}
    assert len(pairs) == len(kept["family_comparisons"]) > 0
    for row in kept["family_comparisons"]:
        told = pairs[row["stream"], row["a"], row["b"]]
        assert float(told["a_less_b"]) == pytest.approx(row["mean"], rel=1e-4, abs=1e-8)


def test_an_audit_whose_other_protocol_is_gone_is_left_out(store: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "s.zarr"
    shutil.copytree(store, copy)
    Store(copy, mode="a").delete("rsa/two-study/toy/group")
    report(store=copy, out=tmp_path / "page", rsas=["two"])
    assert not (tmp_path / "page" / "figures" / "two-protocols.svg").exists()


def test_the_default_comes_first_and_the_page_says_whose_protocol_an_answer_is(store: Path, folder: Path) -> None:
    text = " ".join((folder / "index.html").read_text().replace("\u00a0", " ").split())
    assert text.index("representational similarity “two” of toy") < text.index("similarity “two-study” of toy")
    assert "(two-study, pearson) and the study&#39;s protocol, the system with the largest score is" in text
    assert "(two, spearman), the system with the largest score is" in text
    # How features met the response, by each protocol.
    assert "averaged into TRs about their mean of the run, and convolved with SPM&#39;s canonical" in text
    assert "dated by the start of its window; features, not centred over time, were convolved" in text
    assert "Satterthwaite&#39;s degrees of freedom (Clark, 1973)" in text
    assert "Protocol of extraction: default and study" in text
    rows = rows_of(folder, "two-similarity")
    kept = {
        (row["stream"], row["model"]): row
        for row in Store(store, mode="r").info("rsa/two/toy/group").attributes["rows"]
    }
    for row in rows:
        for name in ("p", "q", "p_subjects", "q_subjects"):
            assert float(row[name]) == pytest.approx(kept[row["stream"], row["system"]][name], rel=1e-4)


def test_systems_have_a_row_for_each_protocol_of_the_page(folder: Path) -> None:
    rows = rows_of(folder, "systems")
    assert [(r["system"], r["protocol"]) for r in rows] == [(m, p) for m in MODELS for p in ("default", "study")]
    text = (folder / "index.html").read_text()
    assert f"{len(MODELS)} systems of {len(set(MODELS.values()))} families, 6 layers" in text


def test_systems_of_an_analysis_are_those_that_it_was_made_from(store: Path, tmp_path: Path) -> None:
    report(store=store, out=tmp_path / "page", rsas=["two"])
    text = (tmp_path / "page" / "index.html").read_text()
    assert "Protocol of extraction: default." in text
