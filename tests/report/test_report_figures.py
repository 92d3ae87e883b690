"""What a journal would refuse: figures with cut texts, tables without rows or without the tests of their scores."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from page_checks import texts_outside
from report_fakes import FAMILIES, STREAMS, SYSTEMS
from rsa_fakes import MODELS, fake_whole_rsa

from brainsim.report.content import AccuracySet, ClaimsSet, Content, RsaSet
from brainsim.report.figures.accuracy import draw_accuracy
from brainsim.report.figures.canvas import Drawing, drawing_style
from brainsim.report.figures.claims import tabulate_answers
from brainsim.report.figures.claims_forest import draw_tests
from brainsim.report.figures.crossing import draw_comparisons, draw_pairs, draw_residuals
from brainsim.report.figures.layers import draw_layer_curves
from brainsim.report.figures.mds import draw_mds
from brainsim.report.figures.parts import draw_parts
from brainsim.report.figures.similarity import draw_similarity, tabulate_similarity
from brainsim.report.figures.venn import draw_venn
from brainsim.report.headline import write_summary
from brainsim.report.page import write_page
from brainsim.report.rdm_parts import as_partition
from brainsim.report.tables import Table

RSA = fake_whole_rsa()


def rows_of(table: Table) -> list[dict[str, str]]:
    return list(csv.DictReader(table.to_tsv().splitlines(), delimiter="\t"))


def draw(rsa: RsaSet) -> Drawing:
    with drawing_style():
        return draw_similarity(rsa, key="s")


def test_chances_of_scores_stand_in_a_table_of_the_page() -> None:
    flips = {key: replace(e, p_subjects=0.0625, q_subjects=0.0625) for key, e in RSA.group.items()}
    rsa = replace(RSA, group=flips)
    table = tabulate_similarity(rsa, key="t")
    for rows in (rows_of(draw(rsa).table), rows_of(table)):
        assert len(rows) == len(STREAMS) * len(MODELS)
        for row in rows:
            e = rsa.group[row["stream"], row["system"]]
            found = [float(row[name]) for name in ("p", "q", "p_subjects", "q_subjects")]
            assert found == pytest.approx([e.p, e.q, e.p_subjects, e.q_subjects], rel=1e-5)
    assert [heading for heading, _ in table.headings] == [
        "Stream", "System", "Score (mean)", "[low, high]", "p", "q", "p (subjects)", "q (subjects)", "Subjects",
    ]  # fmt: skip
    assert "p: of a mean above 0, subjects and runs as random effects" in table.note


def test_scores_without_chances_have_no_empty_columns_and_say_so() -> None:
    nothing = {key: replace(e, p=math.nan, q=math.nan) for key, e in RSA.group.items()}
    rsa = replace(RSA, group=nothing)
    table = tabulate_similarity(rsa, key="t")
    assert not {"p", "q", "p (subjects)"} & {heading for heading, _ in table.headings}
    assert {row["q"] for row in rows_of(table)} == {"n/a"}
    assert "No p or q is known: nothing was tested." in draw(rsa).caption


def test_where_differences_were_not_tested_the_summary_says_so() -> None:
    untested = tuple({**row, "p": None, "q": None} for row in RSA.comparisons)
    (told,) = write_summary(Content(rsas=(replace(RSA, comparisons=untested),)))
    assert "whether systems differ was not tested" in told
    assert "significantly" not in told


def fake_accuracy() -> AccuracySet:
    """Return nine models, of long names, that lie near one another."""
    rng = np.random.default_rng(0)
    rows = tuple(
        {
            "measure": "geometry", "stream": s, "model": m, "accuracy": 70.0 + 2 * i, "task": "imagenet",
            "accuracy_source": "He et al. 2016", "score": float(v := rng.uniform(0, 0.01)), "ceiling": 0.4,
            "normalised": v / 0.4, "low": v / 0.4 - 0.05, "high": v / 0.4 + 0.05, "n_subjects": 4,
            "source": "rsa whole",
        }
        for s in STREAMS
        for i, m in enumerate(SYSTEMS)
    )  # fmt: skip
    return AccuracySet("acc", "planted", rows, ())


def test_no_text_of_a_figure_is_cut() -> None:
    assert RSA.geometry is not None
    negative = np.asarray(RSA.layer_score) / 40 - 0.004
    with drawing_style():
        drawings = [
            draw(replace(RSA, comparison="whitened-cosine")),
            draw_comparisons(RSA, key="c"),
            draw_pairs(RSA, key="p"),
            draw_residuals(RSA, key="r"),
            draw_mds(RSA, RSA.geometry, key="m"),
            draw_accuracy(fake_accuracy(), "geometry", key="a"),
            draw_layer_curves(
                RSA.layers, negative, streams=STREAMS, subjects=RSA.subjects, key="l", title="t",
                y_label="RDM similarity (whitened-cosine)", what="w",
            ),
        ]  # fmt: skip
    for drawing in drawings:
        assert drawing is not None
        assert texts_outside(drawing) == [], drawing.key
    assert ">Difference</text>" in drawings[1].svg  # type: ignore[union-attr]  # there is one


def test_long_names_of_claims_are_whole_and_their_lines_about_equally_long() -> None:
    claim = "masked-autoencoders-explain-little-beyond-convolutional-networks"
    part = "best: dynamic-cnn over video-mae, image-mae, mvd and supervised-cnn"
    test = {"measure": "geometry", "claim": claim, "part": part, "estimate": 0.1, "low": 0.0, "high": 0.2}
    rest = {"n_subjects": 14, "bound": 0.02, "reachable": 0.6, "p_for": 0.0004, "p_against": None}
    tests = tuple({**test, **rest, "stream": s} for s in STREAMS)
    answer = {
        "measure": "geometry", "claim": claim, "says": "They do.", "answer": "not supported", "p_for": 0.0004,
        "q_for": 0.0008, "p_against": None, "q_against": None, "n_subjects": 14, "source": "rsa whole", "reason": "",
    }  # fmt: skip
    untested = {**answer, "claim": "other", "answer": "not tested", "reason": "There is no such system."}
    claims = ClaimsSet("study", "planted", (answer, untested), tests)
    with drawing_style():
        drawing = draw_tests(claims, "geometry", key="f")
    assert drawing is not None
    assert texts_outside(drawing) == []
    lines = [line for label in drawing.figure.axes[0].get_yticklabels() for line in label.get_text().split("\n")]
    assert "".join(lines[:2]) == f"{claim} – not supported"
    assert max(map(len, lines)) < 1.4 * min(map(len, lines))
    # Small chances are told by their size; what is missing stands as the rest of its column does.
    answers = tabulate_answers(claims, key="a")
    shown = [dict(zip([h for h, _ in answers.headings], row, strict=True)) for row in answers.shown]
    assert shown[0]["q for"] == ("< 0.001", True)
    assert (shown[0]["q against"], shown[0]["Why not tested"]) == (("–", True), ("–", False))


def test_parts_of_rdms_have_a_title_of_their_own() -> None:
    partition = as_partition(RSA)
    assert partition is not None
    with drawing_style():
        drawing, of_responses = (draw_parts(p, None, key="p") for p in (partition, replace(partition, of="responses")))
    assert drawing is not None
    assert of_responses is not None
    assert drawing.title == "Variance of RDMs: unique and shared parts"
    assert of_responses.title == "Unique and shared parts"
    assert "The 14 of 31 parts that are largest in any stream; the other 17 are in the TSV. Dots" in drawing.caption
    few = as_partition(fake_whole_rsa(families=FAMILIES[:3]))
    assert few is not None
    with drawing_style():
        drawings = [draw_parts(few, None, key="p"), draw_venn(few, key="v")]
    assert [d.title for d in drawings if d is not None] == [
        "Variance of RDMs: unique and shared parts", "Variance of RDMs: what families share",
    ]  # fmt: skip
    assert drawings[0] is not None
    assert "in the TSV" not in drawings[0].caption


def test_a_score_of_zero_is_a_number() -> None:
    accuracy = fake_accuracy()
    accuracy = replace(accuracy, rows=({**accuracy.rows[0], "score": 0.0}, *accuracy.rows[1:]))
    with drawing_style():
        drawing = draw_accuracy(accuracy, "geometry", key="a")
    assert rows_of(drawing.table)[0]["score"] == "0"
    assert "Scores: rsa whole." in drawing.caption


def test_a_table_without_rows_is_left_out(tmp_path: Path) -> None:
    answer = {
        "measure": "geometry", "claim": "c", "says": "s", "answer": "not tested", "p_for": None, "q_for": None,
        "p_against": None, "q_against": None, "n_subjects": 0, "source": None, "reason": "no result can answer",
    }  # fmt: skip
    small = replace(RSA, layers=(), layer_score=None, best_layer=None, best_score=None, joint=None, pairs={},
                    residuals={}, geometry=None)  # fmt: skip
    write_page(Content(rsas=(small,), claims=(ClaimsSet("study", "planted", (answer,)),)), tmp_path)
    text = (tmp_path / "index.html").read_text()
    assert "Show 0 rows" not in text
    assert "no result can answer" in text
    assert "The tests behind the answers" not in text
