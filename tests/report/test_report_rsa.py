"""RSA on the page: pairs, comparisons, best layers, parts of RDM variance, RDMs, a map, two protocols, claims as a "
"forest."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from page_checks import check_page
from report_fakes import FAMILIES, STREAMS
from rsa_fakes import MODELS, fake_audit, fake_geometry, fake_whole_rsa

from brainsim.report.content import ClaimsSet, Content
from brainsim.report.figures.canvas import drawing_style
from brainsim.report.figures.claims_forest import draw_tests
from brainsim.report.figures.crossing import draw_comparisons, draw_pairs
from brainsim.report.figures.mds import scale_to_plane, to_distances
from brainsim.report.figures.rdms import to_percentiles
from brainsim.report.figures.venn import _distance, _lens, draw_venn
from brainsim.report.headline import write_summary
from brainsim.report.page import write_page
from brainsim.report.rdm_parts import as_partition

RSA = fake_whole_rsa()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("rsa")
    write_page(Content(rsas=(RSA,), audits=(fake_audit(),)), out)
    return out


def rows_of(folder: Path, key: str) -> list[dict[str, str]]:
    with (folder / "tables" / f"{key}.tsv").open() as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_every_figure_of_an_rsa_has_title_unit_n_and_numbers(folder: Path) -> None:
    assert check_page(folder) == 12
    keys = {p.stem for p in (folder / "figures").iterdir()}
    kinds = ("similarity", "comparisons", "rsa-layers", "best-layers", "rdm-unique", "rdm-parts",
             "rdm-comparisons", "pairs", "residuals", "rdms", "mds", "protocols")  # fmt: skip
    assert keys == {f"whole-{kind}" for kind in kinds}


def test_pairs_stand_with_single_systems_on_the_diagonal(folder: Path) -> None:
    rows = {(r["stream"], r["system"], r["and_system"]): float(r["r"]) for r in rows_of(folder, "whole-pairs")}
    assert len(rows) == 4 * 45
    for (stream, a, b), estimate in RSA.pairs.items():
        assert rows.get((stream, a, b), rows.get((stream, b, a))) == pytest.approx(estimate.mean, rel=1e-5)
    assert rows["early", MODELS[0][0], MODELS[0][0]] == pytest.approx(RSA.group["early", MODELS[0][0]].mean, rel=1e-5)


def test_residuals_keep_control_and_target_apart(folder: Path) -> None:
    rows = {(r["stream"], r["control"], r["target"]): float(r["r"]) for r in rows_of(folder, "whole-residuals")}
    assert len(rows) == 4 * 81
    for key, estimate in RSA.residuals.items():
        assert rows[key] == pytest.approx(estimate.mean, rel=1e-5)


def test_only_significant_comparisons_have_numbers_in_the_figure(folder: Path) -> None:
    rows = rows_of(folder, "whole-comparisons")
    clear = sum(float(r["q"]) <= 0.05 for r in rows)
    assert 0 < clear < len(rows) == 144
    svg = (folder / "figures" / "whole-comparisons.svg").read_text()
    cells = svg.count("5.6px")  # letters of cells are the only ones of that size
    assert cells == 2 * clear  # a less b, and b less a
    assert f"{clear} are. Subjects and runs are random effects" in (folder / "index.html").read_text()


def test_best_layers_are_those_of_the_rows(folder: Path) -> None:
    rows = rows_of(folder, "whole-best-layers")
    row = next(r for r in rows if r["stream"] == "ventral" and r["system"] == "mvd-base-tiny")
    column = [m for m, _ in RSA.models].index("mvd-base-tiny")
    assert RSA.best_layer is not None
    for s, subject in enumerate(RSA.subjects):
        assert row[f"layer_{subject}"] == RSA.layers[int(RSA.best_layer[s, 1, column])].name


def test_parts_of_rdm_variance_are_told_as_such_and_without_targets(folder: Path) -> None:
    text = (folder / "index.html").read_text()
    assert "Variance of RDMs: unique variance by stream and family" in text
    assert "Parts of the variance of the brain&#39;s RDMs" in text
    rows = {(r["stream"], r["family"]): r for r in rows_of(folder, "whole-rdm-unique")}
    assert "n_targets" not in rows["early", "mvd"]
    assert float(rows["early", "mvd"]["unique_r2"]) == pytest.approx(
        RSA.group_families["unique", "early", "mvd"].mean, rel=1e-5
    )
    joint = rows_of(folder, "whole-rdm-joint-table")
    assert [r["stream"] for r in joint] == list(STREAMS)
    assert "n_targets" not in joint[0]
    assert "Variance of RDMs: R² of all families together" in text


def test_families_are_compared_two_by_two_by_their_parts_of_rdm_variance(folder: Path) -> None:
    rows = {(r["stream"], r["a"], r["b"]): r for r in rows_of(folder, "whole-rdm-comparisons")}
    assert len(rows) == len(STREAMS) * 10 == len(RSA.family_comparisons)
    for row in RSA.family_comparisons:
        told = rows[row["stream"], row["a"], row["b"]]
        assert float(told["a_less_b"]) == pytest.approx(row["mean"], rel=1e-4, abs=1e-8)
        assert float(told["q"]) == pytest.approx(row["q"], rel=1e-4)
    text = " ".join((folder / "index.html").read_text().split())
    assert "Variance of RDMs: which family explains more that no other does: paired comparisons" in text
    assert "Every two families were compared likewise, two-sided" in text


def test_an_audit_tells_what_changes_and_by_which_step(folder: Path) -> None:
    changed = rows_of(folder, "whole-changed")
    assert [r["changed_by"] for r in changed] == ["features", "sampling and lag", "no single step"]
    steps = {r["step"]: r for r in rows_of(folder, "whole-steps")}
    assert (steps["lag"]["n_conclusions"], steps["edges"]["n_conclusions"]) == ("1", "0")
    assert float(steps["lag"]["mean_absolute_change"]) == pytest.approx(0.01, rel=1e-4)
    text = (folder / "index.html").read_text().replace("\u00a0", " ")
    assert "3 of 144 conclusions about two systems (2 %) depend on the protocol" in text
    # A step whose activations are not stored changed nothing that is known.
    system = MODELS[4][0]
    assert [steps["mask"][name] for name in ("differs", "mean_absolute_change", "n_conclusions")] == [
        f"not known: activations of {system} by it are not stored",
        "n/a",
        "n/a",
    ]
    assert steps["features"]["differs"] == f"yes; not known for {system}, whose activations by it are not stored"
    assert steps["edges"]["differs"] == "no: the data have it already"
    assert "Activations by mask alone were not stored." in text


def test_methods_name_what_was_done_once_for_analyses_made_alike(tmp_path: Path) -> None:
    small = replace(RSA, geometry=None, pairs={}, residuals={}, comparisons=(), layers=(), layer_score=None,
                    best_layer=None, best_score=None, unique=None, alone=None, joint=None)  # fmt: skip
    write_page(Content(rsas=(small, replace(small, name="again"))), tmp_path)
    text = (tmp_path / "index.html").read_text().replace("\u00a0", " ")
    assert text.count("Representational similarity analysis (Kriegeskorte et al., 2008)") == 1
    assert "Representational similarity: whole and again." in text
    assert "Pairs of TRs closer than 8 s were left out" in text


def test_places_in_the_plane_are_found_again_from_their_distances() -> None:
    places = np.random.default_rng(0).normal(size=(30, 2)) * [3, 1]
    distance = np.linalg.norm(places[:, None] - places[None], axis=-1)
    found, stress = scale_to_plane(distance)
    assert stress < 1e-6
    np.testing.assert_allclose(np.linalg.norm(found[:, None] - found[None], axis=-1), distance, atol=1e-5)
    assert found[:, 0].std() > found[:, 1].std()


def test_the_map_has_no_more_stress_than_scikit_learns() -> None:
    sklearn = pytest.importorskip("sklearn.manifold")
    distance = to_distances(fake_geometry().similarity)
    places, stress = scale_to_plane(distance)
    start = np.random.default_rng(0).normal(size=places.shape)
    peer, _ = sklearn.smacof(distance, n_components=2, init=start, n_init=1, max_iter=300, normalized_stress=False)
    error = np.linalg.norm(peer[:, None] - peer[None], axis=-1) - distance
    assert stress <= math.sqrt((error**2).sum() / (distance**2).sum()) + 1e-3


def test_percentiles_are_of_pairs_and_leave_the_diagonal_out() -> None:
    square = np.full((4, 4), np.nan)
    for value, (i, j) in enumerate(((0, 2), (0, 3), (1, 3))):
        square[i, j] = square[j, i] = value
    ranks = to_percentiles(square)
    assert [ranks[0, 2], ranks[0, 3], ranks[1, 3]] == pytest.approx([100 / 6, 50, 500 / 6])
    assert np.isnan(ranks[np.diag_indices(4)]).all()
    np.testing.assert_array_equal(ranks, ranks.T)


def test_circles_lie_so_that_their_overlap_has_the_size_of_the_shared_part() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(-3, 3, (200_000, 2))
    d = _distance(1.0, 0.7, 0.6)
    inside = (np.hypot(*points.T) < 1.0) & (np.hypot(points[:, 0] - d, points[:, 1]) < 0.7)
    assert inside.mean() * 36 == pytest.approx(0.6, abs=0.02)
    assert _lens(1.0, 0.7, d) == pytest.approx(0.6, abs=1e-9)


@pytest.mark.parametrize("n", [2, 3])
def test_up_to_three_families_have_venn_diagrams_whose_parts_sum_to_the_whole(n: int) -> None:
    rsa = fake_whole_rsa(families=FAMILIES[:n])
    rsa = replace(rsa, part_values=np.abs(np.asarray(rsa.part_values)), group_parts={})
    partition = as_partition(rsa)
    assert partition is not None
    with drawing_style():
        drawing = draw_venn(partition, key="v")
    assert drawing is not None
    rows = list(csv.DictReader(drawing.table.to_tsv().splitlines(), delimiter="\t"))
    assert len(rows) == len(STREAMS) * (2**n - 1)
    assert ("Areas are to scale" in drawing.caption) is (n == 2)
    with drawing_style():
        assert draw_venn(as_partition(RSA), key="v") is None  # type: ignore[arg-type]  # five families


def test_a_forest_of_claims_shows_every_test_and_its_bound() -> None:
    test = {
        **{"measure": "geometry", "claim": "little", "part": "alone: mae", "stream": "early", "n_subjects": 14},
        **{"estimate": 0.1, "low": 0.05, "high": 0.15, "bound": 0.2, "reachable": 0.6, "p_for": 0.01, "p_against": 0.9},
    }
    answer = {"measure": "geometry", "claim": "little", "answer": "supported"}
    claims = ClaimsSet("study", "d", (answer,), (test, {**test, "stream": "dorsal"}))
    with drawing_style():
        drawing = draw_tests(claims, "geometry", key="f")
        assert draw_tests(claims, "encoding", key="f") is None
    assert drawing is not None
    assert "little – supported" in drawing.svg
    assert "n = 14 subjects" in drawing.caption
    rows = list(csv.DictReader(drawing.table.to_tsv().splitlines(), delimiter="\t"))
    assert [(r["stream"], r["bound"], r["answer"]) for r in rows] == [
        (s, "0.2", "supported") for s in ("early", "dorsal")
    ]


def test_the_summary_says_whom_the_best_cannot_be_told_from(tmp_path: Path) -> None:
    best = MODELS[0][0]
    scores = np.full(RSA.model_score.shape, 0.1)
    scores[..., 0] = 0.2
    rows = tuple(
        {**row, "q": 0.01 if best in (row["a"], row["b"]) and MODELS[1][0] not in (row["a"], row["b"]) else 0.4}
        for row in RSA.comparisons
    )
    write_page(Content(rsas=(replace(RSA, group={}, model_score=scores, comparisons=rows),)), tmp_path)
    text = " ".join((tmp_path / "index.html").read_text().replace("\u00a0", " ").split())
    assert (
        f"the system with the largest score is {best} in early (0.200; 7 of 8 others are significantly below)" in text
    )


def test_of_two_systems_the_summary_speaks_of_the_other() -> None:
    models, group = RSA.models[:2], {cell: e for cell, e in RSA.group.items() if cell[1] in dict(RSA.models[:2])}
    rows = tuple(r for r in RSA.comparisons if {r["a"], r["b"]} == {m for m, _ in models})
    for q, words in ((0.01, "the other is significantly below"), (0.4, "the other is not significantly below")):
        two = replace(RSA, models=models, group=group, comparisons=tuple({**r, "q": q} for r in rows))
        (told,) = write_summary(Content(rsas=(two,)))
        assert told.count(words) == len(STREAMS)
        assert "1 others" not in told


def test_pairs_of_another_protocol_say_what_the_diagonal_is() -> None:
    with drawing_style():
        assert "diagonal: one system, by spearman. Mean" in draw_pairs(RSA, key="p").caption
        assert "diagonal: one system. Mean" in draw_pairs(replace(RSA, comparison="pearson"), key="p").caption


def test_differences_that_were_not_tested_are_not_counted() -> None:
    untested = tuple({**row, "p": None, "q": None} for row in RSA.comparisons)
    with drawing_style():
        drawing = draw_comparisons(replace(RSA, comparisons=untested), key="c")
    assert drawing is not None
    assert drawing.caption.endswith("Differences were not tested.")


def test_families_that_were_tested_say_so_where_none_is_significant(tmp_path: Path) -> None:
    tested = {cell: replace(e, p=0.3, q=0.4) for cell, e in RSA.group_families.items()}
    options = {**RSA.options, "pairs": "within-run"}
    write_page(Content(rsas=(replace(RSA, group_families=tested, options=options),)), tmp_path)
    text = " ".join((tmp_path / "index.html").read_text().replace("\u00a0", " ").split())
    assert "over 20 families and streams, one-sided, subjects and runs as random effects (0 are)" in text
    assert "Parts of families were tested one-sided, with subjects and runs as random effects" in text
    assert "Only TRs of one run made pairs." in text


def test_scores_that_are_not_tested_say_why(tmp_path: Path) -> None:
    why = "Unrelated RDMs have a cosine above 0."
    group = {cell: replace(e, p=math.nan, q=math.nan) for cell, e in RSA.group.items()}
    write_page(Content(rsas=(replace(RSA, comparison="cosine", group=group, untested=why),)), tmp_path)
    text = " ".join((tmp_path / "index.html").read_text().replace("\u00a0", " ").split())
    assert text.count(why) == 2  # below the figure, and in the methods
    assert {row["p"] for row in rows_of(tmp_path, "whole-similarity")} == {"n/a"}


def test_a_stimulus_set_is_told_as_one(tmp_path: Path) -> None:
    from brainsim.report.content import DatasetNote

    options = {**{k: v for k, v in RSA.options.items() if k not in ("min_lag_s", "sampling")}, "n_stimuli": 92}
    interval = "95 % interval of the mean, subjects and stimuli as random effects (bootstrap of stimuli)"
    of_parts = "95 % interval of the mean, subjects and held-out parts of the stimuli as random effects"
    group = {cell: replace(e, p_subjects=0.06, q_subjects=0.1) for cell, e in RSA.group.items()}
    rsa = replace(RSA, dataset="objects", group=group, options=options, interval=interval, interval_of_parts=of_parts)
    write_page(Content(rsas=(rsa,), datasets=(DatasetNote("objects"),)), tmp_path)
    text = " ".join((tmp_path / "index.html").read_text().replace("\u00a0", " ").split())
    assert "4 subjects, 92 stimuli: RDMs from files, of early, ventral, lateral and dorsal." in text
    assert "dissimilarity of the 92 stimuli by correlation distance" in text
    assert "draws of stimuli and subjects (Schütt et al., 2023)" in text
    assert of_parts in text
    assert "Subjects and stimuli are random effects." in text
    assert "it speaks of these very stimuli" in text
    assert "haemodynamic" not in text
