"""The page: parses, loads nothing, escapes names, is the same every time, leaves out what has no data."""

from __future__ import annotations

import csv
import io
import json
import re
import time
import urllib.parse
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from report_fakes import (
    FAMILIES,
    OPTIONS,
    REGIONS,
    STREAMS,
    fake_complete_partition,
    fake_fit,
    fake_partition,
    fake_regions,
    fake_rsa,
    fake_searches,
    fake_singles,
    fake_study,
    fake_table_study,
)

from brainsim.core.errors import InvalidValueError
from brainsim.report.caveats import list_caveats
from brainsim.report.content import Content, PartitionSet
from brainsim.report.page import write_page
from brainsim.report.reduce import order_streams, significant, stream_masks, stream_means, stream_medians
from brainsim.report.references import find_link, to_bibtex
from brainsim.report.tables import Column, Table, format_cell

VOID = {"meta", "link", "br", "hr", "img", "input"}
HOSTILE = '<script>alert("x")</script>&"\'$\\foo$-->'


class Page(HTMLParser):
    """Collects ids, links and text, and complains about tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[tuple[str, str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append(tag)
        self.ids += [v for k, v in attrs if k == "id" and v]
        self.links += [
            (tag, v, found) for k, v in attrs if k in ("href", "src", "xlink:href", "action", "srcset") and v
        ]
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.stack.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.stack or self.stack[-1] not in ("style",):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def study_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page")
    return write_page(fake_study(), out).page


def read_table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text), delimiter="\t"))


def test_a_study_page_parses_and_every_link_inside_it_leads_somewhere(study_page: Path) -> None:
    page = Page(study_page.read_text())
    assert len(page.ids) == len(set(page.ids))
    inner = [link[1:] for _, link, _ in page.links if link.startswith("#")]
    assert set(inner) <= set(page.ids)
    assert page.tags.count("svg") == 10
    assert "script" not in page.tags


def test_the_page_asks_nothing_of_the_network(study_page: Path) -> None:
    text = study_page.read_text()
    for tag, link, _ in Page(text).links:
        if link.startswith(("http:", "https:", "//")):
            assert tag == "a"
        else:
            assert link.startswith(("#", "data:"))
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style is not None
    assert "url(" not in style.group(1)
    assert "@import" not in style.group(1)


def test_every_figure_has_a_title_a_text_for_the_blind_n_and_its_numbers(study_page: Path) -> None:
    text = study_page.read_text()
    figures = re.findall(r'<figure id="([^"]+)">(.*?)</figure>', text, re.DOTALL)
    assert len(figures) == 10
    for key, body in figures:
        assert re.search(r"Figure \d+</span> \S", body)
        assert re.search(r'<svg role="img" aria-label="[^"]{20,}"', body)
        caption = body[body.index("<figcaption>") :]
        assert re.search(r"\bn\s=\s\d", caption), key
        assert f'download="{key}.tsv"' in caption


def test_the_tables_on_disk_are_those_of_the_links(study_page: Path) -> None:
    out = study_page.parent
    linked = {a["download"]: v for tag, v, a in Page(study_page.read_text()).links if tag == "a" and "download" in a}
    linked.pop("references.bib")
    on_disk = {p.name: p.read_text() for p in (out / "tables").iterdir()}
    assert set(linked) == set(on_disk)
    for name, text in on_disk.items():
        assert urllib.parse.unquote(str(linked[name]).split(",", 1)[1]) == text
        rows = text.strip("\n").split("\n")
        assert len({row.count("\t") for row in rows}) == 1
        assert len(rows) > 1


def test_the_main_table_holds_the_estimates_and_the_truth(study_page: Path) -> None:
    partition, truth = fake_partition()
    rows = read_table((study_page.parent / "tables" / "families-unique-table.tsv").read_text())
    assert [(r["stream"], r["family"]) for r in rows] == [(s, f) for s in STREAMS for f in FAMILIES]
    for row in rows:
        cell = (row["stream"], row["family"])
        s, f = STREAMS.index(cell[0]), FAMILIES.index(cell[1])
        assert float(row["unique_r2"]) == pytest.approx(partition.unique[:, s, f].mean(), rel=1e-4)
        assert float(row["planted_unique_r2"]) == pytest.approx(truth.unique[cell], abs=1e-6)
        assert float(row["error"]) == pytest.approx(float(row["unique_r2"]) - truth.unique[cell], abs=1e-6)
        assert float(row["subject_sub-02"]) == pytest.approx(partition.unique[1, s, f], rel=1e-4)
        assert float(row["low"]) < float(row["unique_r2"]) < float(row["high"])


def test_all_parts_are_in_the_table_and_sum_to_the_joint_r2(study_page: Path) -> None:
    tables = study_page.parent / "tables"
    parts = read_table((tables / "families-parts.tsv").read_text())
    joint = {
        r["stream"]: float(r["joint_r2"])
        for r in read_table((tables / "families-joint.tsv").read_text())
        if r["family"] == "(all)"
    }
    for stream in STREAMS:
        mine = [float(r["part_r2"]) for r in parts if r["stream"] == stream]
        assert len(mine) == 31
        assert sum(mine) == pytest.approx(joint[stream], abs=1e-4)


def test_figures_on_disk_are_xml_with_text_that_can_be_read(study_page: Path) -> None:
    files = sorted((study_page.parent / "figures").iterdir())
    assert len(files) == 10
    for file in files:
        root = ElementTree.fromstring(file.read_text())
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert "metadata" not in file.read_text()
    text = (study_page.parent / "figures" / "families-unique.svg").read_text()
    assert "planted (true) value" in text
    assert "Unique variance (ΔR²)" in text


def test_same_input_gives_the_same_bytes(study_page: Path, tmp_path: Path) -> None:
    again = write_page(fake_study(), tmp_path).page
    assert again.read_bytes() == study_page.read_bytes()
    first = write_page(fake_table_study(), tmp_path / "first").page.read_text()
    later = write_page(replace(fake_table_study(), created="2027-01-01T00:00:00Z"), tmp_path / "later").page.read_text()
    assert later != first
    assert later.replace("2027-01-01T00:00:00Z", "2026-11-23T09:00:00Z") == first


def test_hostile_names_are_text_everywhere(tmp_path: Path) -> None:
    partition, _ = fake_partition(streams=("early", HOSTILE))
    fit = replace(fake_fit(streams=("early", HOSTILE)), name="../../etc", layers=fake_fit().layers)
    content = replace(
        fake_study(),
        partitions=(partition,),
        fits=(fit,),
        rsas=(),
        warnings=(HOSTILE,),
        title=HOSTILE,
        store=HOSTILE,
    )
    written = write_page(content, tmp_path / "out")
    text = written.page.read_text()
    page = Page(text)
    assert "<script" not in text
    assert "script" not in page.tags
    assert HOSTILE in page.text
    assert all(p.resolve().is_relative_to((tmp_path / "out").resolve()) for p in (*written.tables, *written.figures))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]
    for figure in written.figures:
        ElementTree.fromstring(figure.read_text())


def test_a_single_region_of_one_subject_gives_a_histogram_and_its_numbers(tmp_path: Path) -> None:
    content = fake_table_study()
    written = write_page(content, tmp_path)
    page = Page(written.page.read_text())
    r = content.fits[0].r["all"][0]
    r = r[np.isfinite(r)]
    (row,) = read_table((tmp_path / "tables" / "pixels-scores-table.tsv").read_text())
    assert float(row["median_r"]) == pytest.approx(np.median(r), rel=1e-4)
    assert float(row["percent_above_0.2"]) == pytest.approx(100 * (r > 0.2).mean(), rel=1e-4)
    assert float(row["percent_above_0.5"]) == pytest.approx(100 * (r > 0.5).mean(), rel=1e-4)
    counts = read_table((tmp_path / "tables" / "pixels-scores.tsv").read_text())
    assert sum(int(c["n_targets"]) for c in counts) == len(r) == int(row["n_targets"])
    assert f"r exceeds 0.5 in {(r > 0.5).sum():,}" in page.text
    assert "5 contiguous blocks of TRs, with a gap of 6 TRs" in page.text
    assert "delays of 2, 3, 4, 5, 6 TRs" in page.text
    assert [p.stem for p in written.figures] == ["pixels-scores"]
    assert "Warnings" not in page.text
    assert "Representational" not in page.text
    assert "planted" not in page.text


@pytest.mark.parametrize(
    ("content", "there", "missing"),
    [
        (Content(partitions=(fake_partition()[0],)), "Unique and shared parts", "Recovery of the planted values"),
        (Content(rsas=(fake_rsa(),)), "noise ceiling", "Unique variance"),
        (Content(fits=(fake_fit(),)), "Prediction by each layer alone", "noise ceiling"),
    ],
)
def test_a_section_without_data_is_left_out(content: Content, there: str, missing: str, tmp_path: Path) -> None:
    text = Page(write_page(content, tmp_path).page.read_text()).text
    assert there in text
    assert missing not in text


def test_a_partition_without_group_result_shows_means_without_intervals(tmp_path: Path) -> None:
    partition = replace(fake_partition(n_subjects=1)[0], group={}, group_joint={}, group_parts={}, interval="")
    write_page(Content(partitions=(partition,)), tmp_path)
    rows = read_table((tmp_path / "tables" / "families-unique-table.tsv").read_text())
    assert {r["low"] for r in rows} == {"n/a"}
    assert float(rows[0]["unique_r2"]) == pytest.approx(partition.unique[0, 0, 0], rel=1e-4)


def test_a_stream_that_nobody_has_is_missing_not_zero(tmp_path: Path) -> None:
    partition, truth = fake_partition()
    unique, joint, parts = partition.unique.copy(), partition.joint.copy(), np.array(partition.part_values)
    unique[:, 2], joint[:, 2], parts[:, 2] = np.nan, np.nan, np.nan
    n_targets = partition.n_targets.copy()
    n_targets[:, 2] = 0
    empty = replace(
        partition, unique=unique, joint=joint, part_values=parts, shapley=unique, product=None, n_targets=n_targets,
        group={}, group_joint={}, group_parts={},
    )  # fmt: skip
    write_page(Content(partitions=(empty,), truths={"planted": truth}), tmp_path)
    rows = read_table((tmp_path / "tables" / "families-unique-table.tsv").read_text())
    assert {(r["unique_r2"], r["n_subjects"]) for r in rows if r["stream"] == "lateral"} == {("n/a", "0")}


def test_an_earlier_page_leaves_no_table_behind_and_other_files_stay(tmp_path: Path) -> None:
    write_page(Content(rsas=(fake_rsa(),)), tmp_path)
    assert (tmp_path / "tables" / "geometry-similarity.tsv").is_file()
    (tmp_path / "tables" / "mine.tsv").write_text("a\n1\n")
    write_page(fake_table_study(), tmp_path)
    names = {p.name for p in (tmp_path / "tables").iterdir()}
    assert names == {"pixels-scores.tsv", "pixels-scores-table.tsv", "runs.tsv", "systems.tsv", "mine.tsv"}
    assert "index.html" in json.loads((tmp_path / "files.json").read_text())
    assert not list(tmp_path.rglob("*.part"))


def test_a_page_without_results_or_into_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="at least one fit, partition or rsa"):
        write_page(Content(), tmp_path)
    file = tmp_path / "page"
    file.write_text("")
    with pytest.raises(InvalidValueError, match="which is a file"):
        write_page(fake_table_study(), file)


def test_the_global_style_of_matplotlib_is_left_alone(tmp_path: Path) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    write_page(fake_table_study(), tmp_path)
    assert dict(matplotlib.rcParams) == before


def test_a_study_of_fourteen_subjects_is_drawn_in_seconds(tmp_path: Path) -> None:
    started = time.process_time()
    write_page(fake_study(n_subjects=14), tmp_path)
    assert time.process_time() - started < 8


def test_the_summary_names_the_largest_unique_variance_and_the_error(study_page: Path) -> None:
    text = Page(study_page.read_text()).text
    partition, truth = fake_partition()
    means = partition.unique.mean(0)
    s, f = np.unravel_index(means.argmax(), means.shape)
    assert f"the largest unique variance is that of {FAMILIES[f]} in {STREAMS[s]}: ΔR² = {means.max():.3f}" in text
    planted = np.array([[truth.unique[s, f] for f in FAMILIES] for s in STREAMS])
    assert f"a largest error of {np.abs(means - planted).max():.3f}" in text


def test_families_that_predict_nothing_are_not_said_to_explain(tmp_path: Path) -> None:
    partition = fake_partition()[0]
    nothing = replace(partition, joint=-np.abs(partition.joint), group_joint={})
    text = Page(write_page(Content(partitions=(nothing,)), tmp_path).page.read_text()).text
    assert "predict no stream better than its mean does: cross-validated R² = −" in text
    assert "together explain" not in text
    assert "The same R² in Shapley shares" not in text


def test_means_over_a_stream_equal_a_loop_and_skip_masked_targets() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3, 40)).astype(np.float32)
    values[:, 5] = np.nan
    membership = (rng.random((3, 40)) < 0.4).astype(np.uint8)
    masks = stream_masks(["a", "b", "c"], membership, {"x": ["a", "c"], "gone": ["z"]}, 40)
    means = stream_means(values, masks, ["x", "gone"])
    chosen = [i for i in range(40) if (membership[0, i] or membership[2, i]) and i != 5]
    for row in range(3):
        assert means[0, row] == pytest.approx(sum(float(values[row, i]) for i in chosen) / len(chosen), rel=1e-6)
    assert np.isnan(means[1]).all()


def test_streams_come_in_the_order_of_the_hierarchy() -> None:
    assert order_streams(["dorsal", "mine", "early", "dorsal"]) == ("early", "dorsal", "mine")
    assert list(stream_masks([], None, {}, 3)) == ["all"]
    assert list(stream_masks(["V1", "V2"], np.eye(2), {}, 2)) == ["V1", "V2"]


def test_cells_are_written_with_true_minus_signs_and_never_minus_zero() -> None:
    assert format_cell(-0.0123, 3) == "−0.012"
    assert format_cell(-0.0001, 3) == "0.000"
    assert format_cell(float("nan")) == format_cell(None) == "–"
    assert format_cell(12345) == "12,345"


def test_a_name_with_a_tab_does_not_break_its_row() -> None:
    table = Table("t", "T", (Column("a"), Column("b")), (("x\ty\nz", float("nan")), ("w", 0.1234567)))
    assert table.to_tsv() == "a\tb\nx y z\tn/a\nw\t0.123457\n"


def test_links_are_found_in_free_citations() -> None:
    assert find_link("He et al. 2016, doi:10.1109/CVPR.2016.90.") == "https://doi.org/10.1109/CVPR.2016.90"
    assert find_link("Tong et al. 2022, arXiv:2203.12602") == "https://arxiv.org/abs/2203.12602"
    assert find_link("a talk") is None


def tables_of(partition: PartitionSet, folder: Path) -> tuple[Page, Path]:
    written = write_page(Content(partitions=(partition,)), folder)
    return Page(written.page.read_text()), folder / "tables"


def test_shares_of_significant_targets_p_values_and_ceilings_are_tabulated(tmp_path: Path) -> None:
    partition, _ = fake_complete_partition()
    page, tables = tables_of(partition, tmp_path)
    rows = {(r["stream"], r["family"]): r for r in read_table((tables / "families-unique-table.tsv").read_text())}
    shares = 100 * partition.significant["unique"].mean(axis=0)
    for s, stream in enumerate(STREAMS):
        for f, family in enumerate(FAMILIES):
            row = rows[stream, family]
            assert float(row["percent_significant"]) == pytest.approx(shares[s, f], rel=1e-4)
            estimate = partition.group["unique", stream, family]
            for name in ("p", "q", "p_subjects", "p_null"):
                assert float(row[name]) == pytest.approx(getattr(estimate, name), rel=1e-4)
    joint = {r["stream"]: r for r in read_table((tables / "families-joint-table.tsv").read_text())}
    assert partition.normalised is not None
    assert float(joint["early"]["r2_over_ceiling"]) == pytest.approx(partition.normalised[:, 0].mean(), rel=1e-4)
    assert (joint["early"]["p"], joint["early"]["p_null"]) == ("0.002", "0.0099")
    assert "p of nulls" in page.text
    assert "Where it is significant" in page.text
    assert "Targets with q ≤ 0.05 (%)" in page.text


def test_a_result_without_nulls_or_ceilings_says_nothing_of_them(tmp_path: Path) -> None:
    page, tables = tables_of(fake_partition()[0], tmp_path)
    assert "q ≤" not in page.text
    assert "ceiling" not in page.text
    assert "Statistics:" not in page.text
    assert {
        r[name] for name in ("p", "p_null") for r in read_table((tables / "families-unique-table.tsv").read_text())
    } == {"n/a"}


def test_rois_have_a_table_and_a_figure_with_their_intervals(tmp_path: Path) -> None:
    partition, _ = fake_complete_partition(n_subjects=2)
    page, tables = tables_of(partition, tmp_path)
    rows = read_table((tables / "families-rois.tsv").read_text())
    assert len(rows) == 2 * len(REGIONS) * 6
    assert (rows[0]["subject"], rows[0]["roi"], rows[0]["quantity"], rows[0]["family"]) == (
        "sub-01", "V1", "joint", "(all)",
    )  # fmt: skip
    assert float(rows[1]["low"]) == pytest.approx(partition.regions[1].estimate.low, rel=1e-4)
    svg = (tmp_path / "figures" / "families-rois.svg").read_text()
    for word in (*REGIONS, *FAMILIES, "mean over subjects"):
        assert f">{word}</text>" in svg
    assert "Intervals of ROIs are percentile bootstraps over test folds (Efron, 1979)" in page.text


def test_many_rois_are_drawn_in_part_and_tabulated_whole(tmp_path: Path) -> None:
    regions = tuple(replace(row, region=f"parcel-{i}") for i in range(60) for row in fake_regions(1)[:2])
    page, tables = tables_of(replace(fake_partition(n_subjects=1)[0], regions=regions), tmp_path)
    assert "The first 40 of 60 ROIs; all are in the TSV" in page.text
    assert len(read_table((tables / "families-rois.tsv").read_text())) == 120


def test_families_alone_are_shown_where_unique_parts_do_not_follow(tmp_path: Path) -> None:
    page, tables = tables_of(fake_singles(), tmp_path)
    assert "Each family alone, and all together" in page.text
    assert "6 of the 31 subsets of families were scored (--subsets singles): unique parts and Shapley" in page.text
    assert "unique and shared parts do not follow from these" in page.text
    for missing in ("Unique variance by stream", "unique(f)", "Shapley values (", "de Heer"):
        assert missing not in page.text
    rows = read_table((tables / "families-alone-table.tsv").read_text())
    assert {(r["alone_r2"], r["low"]) for r in rows} == {("0.05", "0.02")}


def test_parts_up_to_some_order_are_not_said_to_sum_to_everything(tmp_path: Path) -> None:
    whole, _ = fake_complete_partition()
    pairs = tuple(part for part in whole.parts if len(part) <= 2)
    values = np.asarray(whole.part_values)[..., : len(pairs)]
    options = {**whole.options, "subsets": "max-order=2"}
    some = replace(
        whole, shapley=None, parts=pairs, part_values=values, n_subsets=16, group_parts={}, options=options, regions=()
    )
    page, _ = tables_of(some, tmp_path / "pairs")
    assert "parts of more than 2 families were not asked for" in page.text
    assert (
        "every combination that lacks at most 2 of them (16 of 31) was computed per target, and what up to 2"
        in page.text
    )
    assert "all parts sum to the joint" not in page.text
    alone = replace(some, parts=pairs[:5], part_values=values[..., :5], n_subsets=6)
    page, _ = tables_of(alone, tmp_path / "unique")
    assert "Unique and shared parts" not in page.text
    assert "shared parts one by one do not follow" in page.text


def test_what_went_wrong_is_told_once_and_gravest_first() -> None:
    partition, _ = fake_complete_partition()
    told = list_caveats(replace(partition, options={**partition.options, "nested": False}))
    starts = ["Single-level", "The search was stopped", "7.3 % of the choices", "28 of 1,776", "Up to 1 candidate",
              "48 of 16,800", "p values rest", "2 rounds"]  # fmt: skip
    assert [text[: len(start)] for text, start in zip(told, starts, strict=True)] == starts
    assert "by the time budget of 10 min in all 4 subjects, after 212 of 300 candidates" in told[1]
    assert "8 NaN or infinite and 20 constant in a test fold" in told[3]


def test_a_search_in_which_nothing_went_wrong_tells_that_the_grid_was_wide_enough() -> None:
    searches = fake_searches(2, n_masked=0, masked={}, edge_share=0.01)
    fit = replace(fake_fit(n_subjects=2), searches=searches)
    assert list_caveats(fit) == (
        "1.0 % of the choices (targets x test folds) are a penalty at an end of the alpha grid: the grid is wide "
        "enough.",
    )


def test_methods_tell_nulls_false_discoveries_and_kinds_of_folds_with_references(tmp_path: Path) -> None:
    partition, _ = fake_complete_partition()
    fit = replace(fake_fit(), options={**OPTIONS, "cv": "groups", "n_folds": 4, "nested": False})
    written = write_page(Content(partitions=(partition,), fits=(fit,)), tmp_path)
    text = Page(written.page.read_text()).text.replace("\u00a0", " ")
    assert "single-level, 4-fold over groups of whole runs" in text
    assert "nested, leave-one-run-out" in text
    assert "shifted circularly in time by at least 10 TRs (20 s) against the features" in text
    assert "p = (1 + number of null scores at or above the observed one) / (1 + 100) (Phipson & Smyth, 2010)" in text
    assert "(Freedman & Lane, 1983; Winkler et al., 2014)" in text
    assert "Benjamini & Hochberg, 1995" in text
    assert "2 rounds of further weightings" in text
    for link in ("10.1080/07350015.1983.10509354", "10.1111/j.2517-6161.1995.tb02031.x", "10.1214/aos/1176344552"):
        assert link in text


def test_ampersands_are_escaped_for_bibtex_but_not_in_addresses() -> None:
    from brainsim.report.references import REFERENCES

    text = to_bibtex([replace(REFERENCES["freedman1983"], link="https://a.org/?b=1&c=2")], [])
    assert r"Business \& Economic Statistics" in text
    assert "https://a.org/?b=1&c=2" in text


def test_medians_and_shares_leave_out_what_is_not_there() -> None:
    values = np.array([1.0, 3.0, np.nan, 100.0])
    masks = {"x": np.array([True, True, True, False]), "none": np.zeros(4, bool)}
    np.testing.assert_array_equal(stream_medians(values, masks, ["x", "none", "gone"]), [2.0, np.nan, np.nan])
    np.testing.assert_array_equal(significant(np.array([0.05, 0.051, np.nan])), [1.0, 0.0, np.nan])


def test_solvers_of_himalaya_are_described_as_they_work(tmp_path: Path) -> None:
    descent = replace(fake_fit(), options={**OPTIONS, "solver": "himalaya-hyper-gradient"})
    afresh = replace(fake_partition()[0], options={**OPTIONS, "solver": "himalaya-random-search", "entry_z": 2.0})
    text = Page(write_page(Content(fits=(descent,), partitions=(afresh,)), tmp_path).page.read_text()).text
    fit, partition = text[text.index("Encoding model: nine.") :].split("Partition of variance: families.")[:2]
    assert "hyper-gradient descent" in fit
    assert "200 candidate" not in fit
    assert "alpha grid" not in " ".join(list_caveats(descent))
    assert "each combination was searched afresh" in partition
    assert "A family entered" not in partition


def test_families_are_compared_two_by_two_and_every_number_is_in_the_table(tmp_path: Path) -> None:
    partition, _ = fake_complete_partition()
    chances = {"p": 0.01, "q": 0.02, "p_subjects": 0.125, "q_subjects": 0.2, "n_subjects": 4}
    rows = tuple(
        {"stream": s, "quantity": "unique", "a": a, "b": b, "mean": 0.01, "low": 0.002, "high": 0.018, **chances}
        for s in STREAMS
        for a, b in combinations(FAMILIES, 2)
    )
    page, tables = tables_of(replace(partition, comparisons=rows), tmp_path)
    told = read_table((tables / "families-comparisons.tsv").read_text())
    assert len(told) == len(rows) == 40
    assert {(r["a_less_b"], r["q"], r["p_subjects"]) for r in told} == {("0.01", "0.02", "0.125")}
    assert "Which family explains more that no other does: paired comparisons" in page.text
    assert "over all 40 pairs of families and streams; 40 are" in page.text
