"""`brainsim claims` on stored results: which result answers what, what is stored and printed, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from claims_store import write_families, write_fit, write_rsa, write_systems, write_targets
from planted_scores import STREAMS, plant_scores
from typer.testing import CliRunner

from brainsim.cli.main import make_app
from brainsim.commands.claims import claims
from brainsim.commands.score_sources import find_scores
from brainsim.core.errors import InvalidValueError, UnknownNameError
from brainsim.stats.claims import Scores
from brainsim.store import Store


@pytest.fixture(scope="module")
def scores() -> Scores:
    return plant_scores("hold", 0)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, scores: Scores) -> Path:
    """Return a store with two partitions, an RSA, and a cohort in which the claims fail."""
    path = tmp_path_factory.mktemp("claims") / "s.zarr"
    store = Store(path, mode="a")
    write_targets(store, scores)
    write_systems(store, scores)
    write_families(store, scores)
    write_rsa(store, scores)
    return path


def test_all_five_are_answered_from_two_partitions(path: Path) -> None:
    summary = claims("first", dataset="d", store=path, measures=["encoding"])
    assert {row["claim"]: row["answer"] for row in summary.answers} == dict.fromkeys(
        [
            "image-mae-little",
            "finetuning-helps",
            "temporal-above-image-mae",
            "dynamic-cnn-above-temporal",
            "flow-unique",
        ],
        "supported",
    )
    source = {row["claim"]: row["source"] for row in summary.answers}
    assert source["finetuning-helps"] == "partition systems"
    assert source["flow-unique"] == "partition families"
    assert all(row["n_subjects"] == 14 for row in summary.answers)
    assert summary.warnings == ()


def test_scores_that_were_stored_are_scores_that_are_read(path: Path, scores: Scores) -> None:
    whole = next(s for s in find_scores(Store(path), "d") if s.source == "partition systems")
    assert whole.streams == STREAMS
    for system in scores.systems:
        np.testing.assert_allclose(np.asarray(whole.single(system)), np.asarray(scores.single(system)), atol=1e-6)
    assert whole.reachable is not None
    np.testing.assert_allclose(whole.reachable, scores.sets[frozenset(scores.systems)], atol=1e-6)


def test_a_geometry_answers_what_it_can_and_says_what_it_cannot(path: Path) -> None:
    summary = claims("both", dataset="d", store=path)
    by_measure = {(row["measure"], row["claim"]): row for row in summary.answers}
    assert len(by_measure) == 10
    unique = by_measure["geometry", "flow-unique"]
    assert unique["answer"] == "not tested"
    assert "rsa geometry" in unique["reason"]
    assert by_measure["geometry", "image-mae-little"]["answer"] == "supported"
    bound = next(t["bound"] for t in summary.tests if t["measure"] == "geometry" and t["claim"] == "image-mae-little")
    assert bound == pytest.approx(0.3 * 0.4)
    assert any("flow-unique (geometry) is not tested" in warning for warning in summary.warnings)


def test_joint_scores_of_a_geometry_answer_what_is_unique(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.zarr", mode="a")
    scores = plant_scores("hold", 3)
    write_rsa(store, scores, joint=True)
    found = find_scores(store, "d")[0]
    assert set(found.sets) == set(scores.sets)
    for members, values in scores.sets.items():
        np.testing.assert_allclose(found.sets[members], values, atol=1e-6)
    summary = claims("geometry", dataset="d", store=tmp_path / "s.zarr")
    assert {row["claim"]: row["answer"] for row in summary.answers}["flow-unique"] == "supported"


def test_protocol_default_answers_where_both_are_stored(tmp_path: Path) -> None:
    """As `rsa geometry --protocol both` leaves them: "geometry-study" comes before "geometry/" in the store."""
    hold, fail = plant_scores("hold", 3), plant_scores("fail", 3)
    store = Store(tmp_path / "s.zarr", mode="a")
    write_rsa(store, fail, "geometry-study", joint=True, protocol="study", ceiling=0.2)
    write_rsa(store, hold, "geometry", joint=True)
    both = claims("both", dataset="d", store=store.path)
    assert {row["source"] for row in both.answers} == {"rsa geometry"}
    assert {row["answer"] for row in both.answers} == {"supported"}
    assert not any("as the study did" in warning for warning in both.warnings)
    named = claims("named", dataset="d", store=store.path, rsas=["geometry-study"])
    assert {row["source"] for row in named.answers} == {"rsa geometry-study (protocol study)"}
    assert {row["answer"] for row in named.answers} == {"not supported"}


def test_the_studys_protocol_answers_where_it_is_alone_and_is_told(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.zarr", mode="a")
    write_rsa(store, plant_scores("hold", 3), "paper", protocol="study")
    summary = claims("alone", dataset="d", store=store.path, claims=["finetuning-helps"])
    assert summary.answers[0]["source"] == "rsa paper (protocol study)"
    assert any("rsa paper (protocol study): scored as the study did" in warning for warning in summary.warnings)
    assert Store(store.path).info("claims/alone/d").attributes["answers"][0]["source"].endswith("(protocol study)")


def test_the_node_holds_the_declaration_the_numbers_and_the_sources(path: Path) -> None:
    summary = claims("kept", dataset="d", store=path, correction="bh", little=0.2)
    info = Store(path).info("claims/kept/d")
    assert info.type == "claims"
    assert info.attributes["rules"]["correction"] == "bh"
    assert info.attributes["rules"]["little"] == {"encoding": 0.2, "geometry": 0.2}
    assert info.attributes["claims"][0]["name"] == "image-mae-little"
    assert len(info.attributes["answers"]) == len(summary.answers)
    assert "partitions/systems/d/sub-01" in info.attributes["sources"]
    again = claims("kept", dataset="d", store=path, correction="bh", little=0.2)
    assert (again.n_nodes_written, again.n_nodes_reused) == (0, 1)
    with pytest.raises(InvalidValueError, match="made with other options"):
        claims("kept", dataset="d", store=path)
    assert claims("kept", dataset="d", store=path, overwrite=True).n_nodes_written == 1


def test_single_fits_answer_where_a_joint_one_says_what_can_be_reached(tmp_path: Path, scores: Scores) -> None:
    store = Store(tmp_path / "s.zarr", mode="a")
    write_targets(store, scores)
    for system in sorted(scores.systems):
        write_fit(store, scores, f"only-{system}", [system])
    alone = claims("alone", dataset="d", store=tmp_path / "s.zarr")
    answers = {row["claim"]: row["answer"] for row in alone.answers}
    assert answers["finetuning-helps"] == "supported"
    assert answers["image-mae-little"] == answers["flow-unique"] == "not tested"
    write_fit(store, scores, "all", sorted(scores.systems))
    write_fit(store, scores, "rest", sorted(scores.systems - {"cnn-flow-action", "cnn-flow-selfsup"}))
    whole = claims("whole", dataset="d", store=tmp_path / "s.zarr")
    assert {row["answer"] for row in whole.answers} == {"supported"}
    write_fit(store, scores, "late", ["mae-base"], delays=[5])  # made otherwise: not compared with the others
    assert len(find_scores(store, "d")) == 2


def test_streams_that_were_not_fitted_are_not_asked(tmp_path: Path, scores: Scores) -> None:
    store = Store(tmp_path / "s.zarr", mode="a")
    write_targets(store, scores)
    write_systems(store, scores, only=("ventral", "dorsal"))
    summary = claims("some", dataset="d", store=tmp_path / "s.zarr", claims=["image-mae-little", "finetuning-helps"])
    assert [row["answer"] for row in summary.answers] == ["supported", "supported"]
    assert summary.answers[0]["streams"] == ["ventral", "dorsal"]
    singles = [np.asarray(scores.single(s))[:, [1, 3]].mean() for s in ("mae-base-finetuned", "mae-base")]
    test = next(row for row in summary.tests if row["claim"] == "finetuning-helps")
    assert test["estimate"] == pytest.approx(singles[0] - singles[1], abs=1e-6)


def test_few_subjects_and_absent_systems_are_told(tmp_path: Path) -> None:
    few = plant_scores("hold", 0, n_subjects=5)
    few = Scores(
        few.source, few.measure, few.subjects, few.streams,
        {m: v for m, v in few.sets.items() if "cnn-static-action" not in m or len(m) > 1},
    )  # fmt: skip
    store = Store(tmp_path / "s.zarr", mode="a")
    write_targets(store, few)
    write_rsa(store, Scores(few.source, few.measure, few.subjects, few.streams,
                            {m: v for m, v in few.sets.items() if len(m) == 1}))  # fmt: skip
    summary = claims("few", dataset="d", store=tmp_path / "s.zarr")
    assert {row["answer"] for row in summary.answers} == {"undecided", "not tested"}
    assert any("With 5 subjects no p is below 0.031" in w for w in summary.warnings)
    assert any("answered without cnn-static-action" in w for w in summary.warnings)


def test_small_twins_are_told(tmp_path: Path, scores: Scores) -> None:
    store = Store(tmp_path / "s.zarr", mode="a")
    twins = {frozenset(f"{s}-tiny" for s in m): v for m, v in scores.sets.items()}
    tiny = Scores(scores.source, scores.measure, scores.subjects, scores.streams, twins)
    write_targets(store, tiny)
    write_systems(store, tiny)
    summary = claims("tiny", dataset="d", store=tmp_path / "s.zarr", claims=["finetuning*"])
    assert summary.answers[0]["answer"] == "supported"
    assert any("9 small twins" in warning for warning in summary.warnings)


def test_a_dry_run_answers_and_writes_nothing(path: Path) -> None:
    summary = claims("dry", dataset="d", store=path, dry_run=True)
    assert len(summary.answers) == 10
    assert not Store(path).has("claims/dry/d")


def test_the_command_prints_a_table_and_json(path: Path) -> None:
    words = ["claims", "shown", "--dataset", "d", "--store", str(path), "--stream", "early,dorsal"]
    shown = CliRunner().invoke(make_app(), words, env={"COLUMNS": "160"})
    assert shown.exit_code == 0, shown.output
    assert "supported" in shown.stdout
    assert "Image MAEs correspond little to any stream." in shown.stdout
    printed = json.loads(CliRunner().invoke(make_app(), [*words, "--json"]).stdout)
    assert {t["stream"] for t in printed["tests"] if t["claim"] == "flow-unique"} == {"early", "dorsal"}


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"dataset": "e"}, InvalidValueError, "no partition, fit or rsa of dataset 'e'"),
        ({"claims": ["flow-uniq"]}, UnknownNameError, "unknown claim 'flow-uniq'; did you mean 'flow-unique'"),
        ({"partitions": ["system"]}, UnknownNameError, "did you mean 'systems'"),
        ({"measures": ["rsa"]}, InvalidValueError, "--measures is 'rsa'"),
        ({"measures": ["geometry"], "rsas": []}, InvalidValueError, "no results of geometry"),
        ({"alpha": 0.0}, InvalidValueError, "--alpha"),
        ({"little": 1.5}, InvalidValueError, "--little"),
        ({"correction": "bonferroni"}, InvalidValueError, "--correction"),
        ({"interval": "bca"}, InvalidValueError, "--interval"),
        ({"streams": ["erly"]}, UnknownNameError, "did you mean 'early'"),
        ({"systems": {"mvt": ["mvd-base"]}}, UnknownNameError, "did you mean 'mvd'"),
    ],
)
def test_mistakes_are_one_sentence(path: Path, options: dict[str, object], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        claims("wrong", **{"dataset": "d", "store": path, **options})  # type: ignore[arg-type]
    assert not Store(path).has("claims/wrong/d")


@pytest.mark.parametrize(
    ("options", "text"),
    [({"claims": ["flow-uniq"]}, "did you mean 'flow-unique'"), ({"systems": {"mvt": ["x"]}}, "did you mean 'mvd'")],
)
def test_claims_and_roles_are_checked_before_a_store_is_there(tmp_path: Path, options: Any, text: str) -> None:
    """A study's plan asks beforehand."""
    with pytest.raises(UnknownNameError, match=text):
        claims("plan", dataset="d", store=tmp_path / "none.zarr", dry_run=True, **options)


def test_subjects_that_were_scored_otherwise_are_refused(tmp_path: Path, scores: Scores) -> None:
    store = Store(tmp_path / "s.zarr", mode="a")
    write_targets(store, scores)
    write_fit(store, scores, "one", ["mae-base"])
    first = store.info("fits/one/d/sub-01")
    attributes = {**first.attributes, "options": {**first.attributes["options"], "delays": [9]}}
    arrays = {name: store.read(first.path, name) for name in first.arrays}
    store.write("fits/one/d/sub-02", type="fit", key={"x": 1}, arrays=arrays, attributes=attributes, overwrite=True)
    with pytest.raises(InvalidValueError, match="other options"):
        claims("mixed", dataset="d", store=tmp_path / "s.zarr")
