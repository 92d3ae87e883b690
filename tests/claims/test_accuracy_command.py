"""`brainsim accuracy`: published accuracies beside scores of single systems, and a user's own rows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from claims_store import write_families, write_fit, write_rsa, write_systems, write_targets
from planted_scores import plant_scores
from scipy.stats import kendalltau, spearmanr
from typer.testing import CliRunner

from brainsim.cli.main import make_app
from brainsim.commands.accuracy import accuracy
from brainsim.core.errors import InputFileError, InvalidValueError
from brainsim.stats.claims import Scores
from brainsim.store import Store

CEILING = 0.5
ROWS = {"cnn-static-object": 69.758, "mae-base-finetuned": 83.66, "videomae-base-finetuned": 81.5}
OWN = {"cnn-static-action": 50.0, "cnn-flow-action": 60.0, "mvd-base": 82.7}


@pytest.fixture(scope="module")
def scores() -> Scores:
    return plant_scores("hold", 1)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, scores: Scores) -> Path:
    path = tmp_path_factory.mktemp("accuracy") / "s.zarr"
    store = Store(path, mode="a")
    write_targets(store, scores, ceiling=CEILING)
    write_systems(store, scores)
    write_rsa(store, scores, ceiling=0.4)
    return path


@pytest.fixture(scope="module")
def table(path: Path) -> Path:
    file = path.parent / "own.tsv"
    lines = [f"{model}\t{percent}\tmy own test\tHAA-500, top-1" for model, percent in OWN.items()]
    file.write_text("\n".join(["model\taccuracy\tsource\ttask", *lines]) + "\n")
    return file


def test_rows_of_models_bring_their_accuracy_with_its_source(path: Path) -> None:
    summary = accuracy("rows", dataset="d", store=path)
    found = {row["model"]: row for row in summary.rows if row["measure"] == "encoding" and row["stream"] == "early"}
    assert {model: row["accuracy"] for model, row in found.items()} == ROWS
    assert found["cnn-static-object"]["accuracy_source"] == "torchvision, ResNet18_Weights.IMAGENET1K_V1"
    assert any("3 models" in warning and "0.33" in warning for warning in summary.warnings)
    assert any("tasks" in warning for warning in summary.warnings)


@pytest.mark.parametrize("method", ["kendall", "spearman"])
def test_correlations_are_those_of_mean_normalised_scores(path: Path, scores: Scores, table: Path, method: str) -> None:
    summary = accuracy(f"own-{method}", dataset="d", store=path, table=table, method=method)
    models = sorted({**ROWS, **OWN})
    percent = [{**ROWS, **OWN}[model] for model in models]
    expected = kendalltau if method == "kendall" else spearmanr
    for row in summary.correlations:
        assert row["n_models"] == 6
        assert row["n_subjects"] == 14
        values = np.stack([np.asarray(scores.single(m)) for m in models], axis=-1)  # (n_subjects, n_streams, n_models)
        streams = slice(None) if row["stream"] == "mean of streams" else [scores.streams.index(row["stream"])]
        mean = values[:, streams].mean(axis=(0, 1))
        assert row["correlation"] == pytest.approx(expected(percent, mean)[0])
        assert row["low"] <= row["correlation"] <= row["high"]
        assert 2 / 720 <= row["p"] <= 1
    assert {row["stream"] for row in summary.correlations} == {*scores.streams, "mean of streams"}


def test_scores_are_shares_of_the_noise_ceiling_of_their_own_kind(path: Path, scores: Scores) -> None:
    summary = accuracy("shares", dataset="d", store=path)
    for measure, ceiling in (("encoding", CEILING), ("geometry", 0.4)):
        row = next(r for r in summary.rows if (r["measure"], r["model"]) == (measure, "mae-base-finetuned"))
        score = np.asarray(scores.single("mae-base-finetuned"))[:, 0].mean()
        assert row["ceiling"] == pytest.approx(ceiling)
        assert row["score"] == pytest.approx(score, abs=1e-6)
        assert row["normalised"] == pytest.approx(score / ceiling, abs=1e-6)


def test_without_a_ceiling_it_is_said(tmp_path: Path, scores: Scores) -> None:
    store = Store(tmp_path / "s.zarr", mode="a")
    write_targets(store, scores)
    for model in ROWS:
        write_fit(store, scores, f"only-{model}", [model])
    summary = accuracy("bare", dataset="d", store=tmp_path / "s.zarr")
    assert all(row["normalised"] is None and row["low"] is not None for row in summary.rows)
    assert any("No noise ceiling is known for encoding" in warning for warning in summary.warnings)
    assert summary.rows[0]["source"].startswith("fits only-")


def test_random_weights_have_no_published_accuracy(tmp_path: Path, scores: Scores) -> None:
    store = Store(tmp_path / "s.zarr", mode="a")
    write_targets(store, scores)
    write_rsa(store, scores)
    arrays = {"values": np.zeros((2, 1), np.float32), "time_s": np.arange(2.0), "window_s": np.zeros((2, 2))}
    attributes = {
        "model": "cnn-static-object",
        "layer": "conv1",
        "layer_index": 0,
        "stimulus": "m",
        "family": "static-cnn",
    }
    key = {"weights": {"random": 0}}
    store.write("activations/cnn-static-object@00000001/conv1/m", type="activations", key=key, arrays=arrays,
                attributes=attributes)  # fmt: skip
    with pytest.raises(InvalidValueError, match=r"2 model\(s\) have a published accuracy"):
        accuracy("random", dataset="d", store=tmp_path / "s.zarr")
    tiny = {frozenset(f"{s}-tiny" for s in members): v for members, v in scores.sets.items()}
    other = Store(tmp_path / "t.zarr", mode="a")
    write_targets(other, scores)
    write_rsa(other, replace(scores, sets=tiny))
    with pytest.raises(InvalidValueError, match=r"0 model\(s\)"):
        accuracy("tiny", dataset="d", store=tmp_path / "t.zarr")


def test_protocol_default_is_related_where_both_are_stored(tmp_path: Path, scores: Scores) -> None:
    store = Store(tmp_path / "s.zarr", mode="a")
    write_rsa(store, scores, "geometry-study", protocol="study")
    alone = accuracy("alone", dataset="d", store=store.path)
    assert {row["source"] for row in alone.rows} == {"rsa geometry-study (protocol study)"}
    assert any("scored as the study did" in warning for warning in alone.warnings)
    write_rsa(store, scores, "geometry")
    both = accuracy("both", dataset="d", store=store.path)
    assert {row["source"] for row in (*both.rows, *both.correlations)} == {"rsa geometry"}
    assert not any("scored as the study did" in warning for warning in both.warnings)


def test_rows_of_a_table_that_no_result_has_are_told_with_the_nearest_model(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "own.tsv"
    rows = ["mvd-bse\t82.7\tme", "cnn-static-action\t50\tme", "clip\t75\tme"]
    file.write_text("\n".join(["model\taccuracy\tsource", *rows]) + "\n")
    summary = accuracy("misspelt", dataset="d", store=path, table=file)
    told = next(warning for warning in summary.warnings if "table of accuracies" in warning)
    assert "2 row(s)" in told
    assert "'mvd-bse' (did you mean 'mvd-base'" in told
    assert "'clip'" in told
    assert "'cnn-static-action'" not in told
    assert told in Store(path).info("accuracy/misspelt/d").attributes["warnings"]


def test_too_few_models_for_a_misspelt_table_names_its_rows(tmp_path: Path, scores: Scores) -> None:
    store = Store(tmp_path / "s.zarr", mode="a")
    write_rsa(store, replace(scores, sets={m: v for m, v in scores.sets.items() if m == frozenset(["mvd-base"])}))
    (tmp_path / "own.tsv").write_text("model\taccuracy\tsource\nmvd_base\t82.7\tme\n")
    with pytest.raises(InvalidValueError, match=r"0 model\(s\) have a published accuracy") as error:
        accuracy("few", dataset="d", store=store.path, table=tmp_path / "own.tsv")
    assert "'mvd_base' (did you mean 'mvd-base'" in error.value.__notes__[0]


def test_it_is_kept_and_found_again(path: Path, table: Path) -> None:
    first = accuracy("kept", dataset="d", store=path)
    assert accuracy("kept", dataset="d", store=path).n_nodes_reused == 1
    info = Store(path).info("accuracy/kept/d")
    assert info.type == "accuracy"
    assert len(info.attributes["rows"]) == len(first.rows)
    with pytest.raises(InvalidValueError, match="made with other options or data"):
        accuracy("kept", dataset="d", store=path, table=table)


def test_the_command_prints_both_tables(path: Path, table: Path) -> None:
    words = [
        "accuracy",
        "shown",
        "--dataset",
        "d",
        "--store",
        str(path),
        "--table",
        str(table),
        "--measures",
        "geometry",
    ]
    shown = CliRunner().invoke(make_app(), words, env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    assert "p over models" in shown.stdout
    assert "my own test" in shown.stdout
    printed = json.loads(CliRunner().invoke(make_app(), [*words, "--json"]).stdout)
    assert {row["measure"] for row in printed["rows"]} == {"geometry"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model\taccuracy\nmvd-base\t80\n", "no column 'source'"),
        ("model\taccuracy\tsource\nmvd-base\teighty\tme\n", "line 2: accuracy is 'eighty'"),
        ("model\taccuracy\tsource\nmvd-base\t180\tme\n", "line 2: accuracy is '180'"),
        ("model\taccuracy\tsource\nmvd-base\t80\n", "line 2: no source"),
        ("model\taccuracy\tsource\n\t80\tme\n", "line 2: no model"),
        ("model\taccuracy\tsource\nmvd-base\t80\tme\nmvd-base\t81\tme\n", "line 3: mvd-base has a row already"),
        ("", "no column 'model'"),
    ],
)
def test_a_table_that_is_none_is_refused_by_its_line(path: Path, tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "own.tsv"
    file.write_text(text)
    with pytest.raises(InputFileError, match=message):
        accuracy("wrong", dataset="d", store=path, table=file)


def test_other_mistakes_are_one_sentence(path: Path, tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="accuracies"):
        accuracy("wrong", dataset="d", store=path, table=tmp_path / "none.tsv")
    with pytest.raises(InputFileError, match="accuracies"):  # also before a store is there, as a study's plan asks
        accuracy("wrong", dataset="d", store=tmp_path / "none.zarr", table=tmp_path / "none.tsv", dry_run=True)
    (tmp_path / "bytes.tsv").write_bytes(b"\xff\xfe\x00model")
    with pytest.raises(InputFileError, match="no table of text"):
        accuracy("wrong", dataset="d", store=path, table=tmp_path / "bytes.tsv")
    with pytest.raises(InvalidValueError, match="--method"):
        accuracy("wrong", dataset="d", store=path, method="pearson")
    with pytest.raises(InvalidValueError, match="--measures"):
        accuracy("wrong", dataset="d", store=path, measures=["behaviour"])


def test_a_measure_with_too_few_models_is_told(tmp_path: Path, scores: Scores) -> None:
    store = Store(tmp_path / "s.zarr", mode="a")
    write_targets(store, scores)
    write_families(store, scores)  # of which no system is scored alone
    write_rsa(store, scores)
    done = accuracy("few", dataset="d", store=tmp_path / "s.zarr")
    assert {row["measure"] for row in done.rows} == {"geometry"}
    assert any("No correlation by encoding: fewer than 3" in warning for warning in done.warnings)
