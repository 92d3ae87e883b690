"""The command: from result nodes in a store to a page, with what is missing said."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brainsim.commands.report import report
from brainsim.core.errors import InvalidValueError, StoreError, UnknownNameError
from brainsim.store import ArraySpec, Store

STREAMS = {"early": ["V1", "V2"], "dorsal": ["V3A"]}
ROIS = ["V1", "V2", "V3A"]
FAMILIES = ["low-level", "made-up"]
SUBSETS = [list(c) for n in (1, 2) for c in combinations(FAMILIES, n)]
LAYERS = [
    {"model": m, "layer": f"l{i}", "index": i, "family": f}
    for m, f in (("pixels", "low-level"), ("mine", "made-up"))
    for i in range(3)
]
N_TARGETS = 30
OPTIONS = {"bands": "system", "delays": [1, 2], "cv": "runs", "seed": 3}


def membership() -> np.ndarray:
    """Return 3 ROIs of 10 targets each, (n_rois, n_targets)."""
    return np.repeat(np.eye(3, dtype=np.uint8), 10, axis=1)


def subject_values(subject: str, n_rows: int) -> np.ndarray:
    values = np.random.default_rng(sum(map(ord, subject))).uniform(0, 0.4, (n_rows, N_TARGETS)).astype(np.float32)
    values[:, 4] = np.nan  # masked
    return values


def write_subject(store: Store, subject: str, *, dataset: str = "toy", warnings: Sequence[str] = ()) -> None:
    common: dict[str, Any] = {"roi_names": ROIS, "streams": STREAMS, "options": OPTIONS, "warnings": list(warnings)}
    key = {"made": "by hand", "subject": subject}
    ijk = np.zeros((N_TARGETS, 3), np.int32)
    store.write(
        f"rois/{dataset}/{subject}",
        type="targets",
        key=key,
        arrays={"ijk": ijk, "membership": membership()},
        attributes={"roi_names": ROIS, "streams": STREAMS, "space": "T1w", "n_targets": N_TARGETS},
    )
    for run in ("run-1", "run-2"):
        store.write(
            f"bold/{dataset}/{subject}/{run}",
            type="bold",
            key=key,
            arrays={"values": np.zeros((12, N_TARGETS), np.float32), "valid": np.uint8(np.arange(N_TARGETS) != 4)},
            attributes={
                "tr_s": 2.0, "start_s": 0.0, "run": run, "cleaning": {"confounds": "motion6", "high_pass_s": 128.0},
                "qc": {"tsnr_median": 50.0, "fd_mean": 0.1, "n_constant": 1, "n_nan": 0},
            },
        )  # fmt: skip
    r = subject_values(subject, 1)[0]
    store.write(
        f"fits/main/{dataset}/{subject}",
        type="fit",
        key=key,
        arrays={
            "r": r,
            "r2": r**2,
            "split_r2": subject_values(subject, 2),
            "layer_r2": subject_values(subject, len(LAYERS)),
        },
        attributes={
            **common,
            "bands": ["pixels", "mine"],
            "band_families": FAMILIES,
            "layers": LAYERS,
            "folds": ["run-1", "run-2"],
            "alphas": [0.1, 1.0, 10.0],
            "summary": {"edge_share": 0.2, "n_masked": 1},
            "sources": [f"rois/{dataset}/{subject}", f"bold/{dataset}/{subject}/run-1"],
        },
    )
    unique = subject_values(subject, 2)
    store.write(
        f"partitions/both/{dataset}/{subject}",
        type="partition",
        key=key,
        arrays={
            "subset_r2": subject_values(subject, 3),
            "subset_r": subject_values(subject, 3),
            "unique": unique,
            "parts": np.vstack([unique, unique[:1]]),
            "shapley": unique,
            "product": unique,
        },
        attributes={**common, "families": FAMILIES, "subsets": SUBSETS},
    )


def write_group(store: Store, subjects: Sequence[str]) -> None:
    rows = [
        {
            "stream": s,
            "family": f,
            "quantity": q,
            "mean": 0.2,
            "low": 0.1,
            "high": 0.3,
            "n_subjects": 2,
            "n_targets": 40,
        }
        for s in STREAMS
        for f in FAMILIES
        for q in ("unique", "shapley", "product")
    ]
    store.write(
        "partitions/both/group",
        type="partition-group",
        key={"of": list(subjects)},
        arrays={},
        attributes={
            "rows": rows,
            "parts": [
                {"stream": s, "families": p[::-1], "mean": 0.1, "low": None, "high": None}
                for s in STREAMS
                for p in SUBSETS
            ],
            "joint": [{"stream": s, "mean": 0.4, "low": 0.35, "high": 0.45} for s in STREAMS],
            "sources": [f"partitions/both/toy/{s}" for s in subjects],
            "interval": "95 % bootstrap interval over subjects",
        },
    )


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    path = tmp_path / "toy.zarr"
    store = Store(path, mode="a")
    for subject in ("sub-01", "sub-02"):
        write_subject(store, subject)
    write_group(store, ["sub-01", "sub-02"])
    rows = [{"stream": "early", "family": "made-up", "unique": 0.19}]
    store.write(
        "truth/toy",
        type="truth",
        key={"seed": 0},
        arrays={},
        attributes={"rows": rows, "description": "planted by hand"},
    )
    return path


def test_a_store_becomes_a_page_with_group_intervals_and_truth(toy: Path, tmp_path: Path) -> None:
    summary = report(store=toy, out=tmp_path / "out")
    text = Path(summary.page).read_text()
    rows = read_table(tmp_path / "out" / "tables" / "both-unique-table.tsv")
    assert [(r["stream"], r["family"]) for r in rows] == [(s, f) for s in ("early", "dorsal") for f in FAMILIES]
    assert {(r["unique_r2"], r["low"], r["high"]) for r in rows} == {("0.2", "0.1", "0.3")}
    assert [r["planted_unique_r2"] for r in rows] == ["n/a", "0.19", "n/a", "n/a"]
    assert "planted by hand" in text
    assert "95\u00a0% bootstrap interval over subjects" in text
    assert json.loads(json.dumps(summary.__dict__))["page"] == summary.page


def test_stream_means_are_those_of_a_loop_over_targets_that_are_not_masked(toy: Path, tmp_path: Path) -> None:
    report(store=toy, out=tmp_path / "out")
    rows = {(r["stream"], r["family"]): r for r in read_table(tmp_path / "out" / "tables" / "both-unique-table.tsv")}
    for subject in ("sub-01", "sub-02"):
        unique = subject_values(subject, 2)
        for f, family in enumerate(FAMILIES):
            early = [float(unique[f, t]) for t in range(20) if t != 4]
            assert float(rows["early", family][f"subject_{subject}"]) == pytest.approx(sum(early) / 19, rel=1e-4)
            assert float(rows["dorsal", family][f"subject_{subject}"]) == pytest.approx(unique[f, 20:].mean(), rel=1e-4)
    assert (rows["early", "made-up"]["n_targets"], rows["dorsal", "made-up"]["n_targets"]) == ("38", "20")
    scores = {r["stream"]: r for r in read_table(tmp_path / "out" / "tables" / "main-scores-table.tsv")}
    pooled = np.concatenate([subject_values(s, 1)[0, :20] for s in ("sub-01", "sub-02")])
    assert float(scores["early"]["median_r"]) == pytest.approx(np.nanmedian(pooled), rel=1e-4)


def test_joint_r2_is_that_of_the_subset_of_all_families(toy: Path, tmp_path: Path) -> None:
    Store(toy, mode="a").delete("partitions/both/group")
    report(store=toy, out=tmp_path / "out", fits=())
    rows = read_table(tmp_path / "out" / "tables" / "both-joint.tsv")
    expected = np.mean([subject_values(s, 3)[2, 20:].mean() for s in ("sub-01", "sub-02")])
    (dorsal,) = [float(r["joint_r2"]) for r in rows if (r["stream"], r["family"]) == ("dorsal", "(all)")]
    assert dorsal == pytest.approx(expected, rel=1e-4)


def test_what_is_missing_stale_or_unfinished_is_said_at_the_top(toy: Path, tmp_path: Path) -> None:
    store = Store(toy, mode="a")
    write_subject(store, "sub-03", warnings=["2 candidates could not be factorised"])
    with store.writer(
        "fits/half/toy/sub-01", type="fit", key={"a": 1}, arrays=dict.fromkeys(("r", "r2"), ArraySpec((3,)))
    ):
        pass
    summary = report(store=toy, out=tmp_path / "out")
    text = Path(summary.page).read_text()
    box = text[text.index('<aside class="warnings"') : text.index("</aside>")]
    assert "made from other subjects than there are now" in box
    assert "without intervals" in box
    assert "2 candidates could not be factorised" in box
    assert "20.0 % of choices are a penalty at an end" in box
    assert "An unfinished result was left out. (fits/half/toy/sub-01)" in box
    assert summary.n_warnings == box.count("<li>")
    rows = read_table(tmp_path / "out" / "tables" / "both-unique-table.tsv")
    assert {r["low"] for r in rows} == {"n/a"}


def test_runs_streams_and_nodes_are_told(toy: Path, tmp_path: Path) -> None:
    summary = report(store=toy, out=tmp_path / "out")
    text = Path(summary.page).read_text().replace("\u00a0", " ")
    assert "2 subjects, 2 runs each, 12 TRs per run, TR 2 s; 30 targets per subject in space T1w." in text
    assert "Streams: early (V1, V2) and dorsal (V3A)." in text
    assert "confounds regressed out (motion6); drifts slower than 128 s removed" in text
    for node in ("partitions/both/group", "fits/main/toy/sub-02", "bold/toy/sub-01/run-1", "truth/toy"):
        assert f"<code>{node}</code>" in text
    runs = read_table(tmp_path / "out" / "tables" / "runs.tsv")
    assert [(r["subject"], r["run"], r["n_masked"]) for r in runs] == [
        (s, r, "1") for s in ("sub-01", "sub-02") for r in ("run-1", "run-2")
    ]


def test_the_store_is_not_written_to(toy: Path, tmp_path: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in toy.rglob("*") if p.is_file()}
    report(store=toy, out=tmp_path / "out")
    assert {p: p.stat().st_mtime_ns for p in toy.rglob("*") if p.is_file()} == before


def write_activations(store: Store, *, model: str, weights: dict[str, Any], feature_set: str) -> str:
    """Write one layer of one system; return its digest."""
    time_s = np.arange(4, dtype=np.float64)
    info = store.write(
        f"activations/{model}@{feature_set}/l0/movie",
        type="activations",
        key={"row": model, "weights": weights, "layer": "l0"},
        arrays={"values": np.zeros((4, 2), np.float32), "time_s": time_s, "window_s": np.stack([time_s, time_s], 1)},
        attributes={"model": model, "layer": "l0", "family": "low-level", "step_s": 1.0, "clip_window": "trailing"},
    )
    return info.digest


def test_a_system_is_described_by_the_activations_that_were_used(toy: Path, tmp_path: Path) -> None:
    store = Store(toy, mode="a")
    write_activations(store, model="pixels", weights={"file": "ab" * 32}, feature_set="00000000")
    used = write_activations(store, model="pixels", weights={"random": 7}, feature_set="ffffffff")
    store.write("kernels/k", type="kernel", key={"layers": [[used]]}, arrays={"K": np.eye(2, dtype=np.float32)})
    info = store.info("fits/main/toy/sub-01")
    arrays = {name: store.read(info.path, name) for name in info.arrays}
    attributes = {**info.attributes, "sources": ["kernels/k"]}
    store.delete(info.path)
    store.write(info.path, type="fit", key=info.key, arrays=arrays, attributes=attributes)
    summary = report(store=toy, out=tmp_path / "out")
    rows = {r["system"]: r for r in read_table(tmp_path / "out" / "tables" / "systems.tsv")}
    assert (rows["pixels"]["weights"], rows["pixels"]["n_layers"]) == ("random (seed 7)", "1")
    assert rows["mine"]["weights"] == "n/a"
    assert "systems have random weights (pixels)" in Path(summary.page).read_text()


def test_only_what_is_asked_for_is_told(toy: Path, tmp_path: Path) -> None:
    summary = report(store=toy, out=tmp_path / "out", fits=["main"], partitions=(), truth=None, title="Mine & yours")
    assert any("encoding model" in s for s in summary.sections)
    assert not any("partition" in s for s in summary.sections)
    text = Path(summary.page).read_text()
    assert "<h1>Mine &amp; yours</h1>" in text
    assert "planted" not in text


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"fits": ["mian"]}, UnknownNameError, "did you mean 'main'"),
        ({"partitions": ["nothing-like-it"]}, UnknownNameError, "allowed: both"),
        ({"truth": "toys"}, UnknownNameError, "did you mean 'toy'"),
        ({"fits": (), "partitions": (), "rsas": ()}, InvalidValueError, "no fit, partition or rsa"),
    ],
)
def test_a_wrong_name_is_one_sentence_with_a_hint(
    toy: Path, tmp_path: Path, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        report(store=toy, out=tmp_path / "out", **options)
    assert getattr(caught.value, "hint", None)
    assert not (tmp_path / "out").exists()


def test_a_store_that_is_not_there_is_an_error_and_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        report(store=tmp_path / "none.zarr", out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_rsa_nodes_become_bars_with_ceilings_and_layer_curves(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.zarr", mode="a")
    models = [{"model": "pixels", "family": "low-level"}, {"model": "mine", "family": "made-up"}]
    scores = np.array([[0.1, 0.2], [0.3, 0.4]], np.float32)  # (n_models, n_streams)
    for subject, streams in (("sub-01", ["early", "dorsal"]), ("sub-02", ["dorsal", "early"])):
        store.write(
            f"rsa/geo/toy/{subject}",
            type="rsa",
            key={"subject": subject},
            arrays={"model_score": scores, "layer_score": np.full((len(LAYERS), 2), 0.05, np.float32)},
            attributes={
                "layers": LAYERS, "models": models, "streams": streams, "comparison": "spearman",
                "distance": "correlation", "options": {"min_lag_s": 8.0},
            },
        )  # fmt: skip
    store.write(
        "rsa/geo/group",
        type="rsa-group",
        key={"a": 1},
        arrays={},
        attributes={
            "rows": [{"stream": "early", "model": "mine", "family": "made-up", "mean": 0.35, "low": 0.3, "high": 0.4}],
            "ceilings": [
                {"stream": "early", "lower": 0.5, "upper": 0.6},
                {"stream": "dorsal", "lower": None, "upper": None},
            ],
        },
    )  # fmt: skip
    summary = report(store=store.path, out=tmp_path / "out")
    rows = {(r["stream"], r["system"]): r for r in read_table(tmp_path / "out" / "tables" / "geo-similarity.tsv")}
    assert [rows["early", "pixels"][f"subject_sub-0{i}"] for i in (1, 2)] == ["0.1", "0.2"]
    assert rows["early", "mine"]["score"] == "0.35"
    assert (rows["early", "mine"]["ceiling_upper"], rows["dorsal", "mine"]["ceiling_upper"]) == ("0.6", "n/a")
    assert {Path(f).stem for f in summary.figures} == {"geo-similarity", "geo-rsa-layers"}
    assert "closer than 8\u00a0s were left out" in Path(summary.page).read_text()


def write_partition(store: Store, subject: str, *, spec: str, arrays: dict[str, np.ndarray], **told: Any) -> None:
    subsets = [["low-level"], ["made-up"], FAMILIES]
    store.write(
        f"partitions/new/toy/{subject}",
        type="partition",
        key={"subject": subject},
        arrays=arrays,
        attributes={
            "families": FAMILIES, "subsets": subsets, "parts": [], "roi_names": ROIS, "streams": STREAMS,
            "options": {**OPTIONS, "subsets": spec}, "warnings": [], "sources": [], **told,
        },
    )  # fmt: skip


def test_each_family_alone_q_values_and_ceilings_are_read(toy: Path, tmp_path: Path) -> None:
    store = Store(toy, mode="a")
    rng = np.random.default_rng(0)
    q = {s: rng.uniform(0, 0.1, N_TARGETS).astype(np.float32) for s in ("sub-01", "sub-02")}
    for subject in q:
        q[subject][4] = np.nan
        arrays = {
            "subset_r2": subject_values(subject, 3),
            "joint_q": q[subject],
            "joint_normalised": 2 * subject_values(subject, 3)[2],
        }
        rows = [
            {"roi": "V1", "family": None, "quantity": "joint", "mean": 0.2, "low": 0.1, "high": 0.3, "n_targets": 9},
            {"roi": "V2", "family": None, "quantity": "joint", "mean": 0.1, "low": None, "high": None, "n_targets": 9},
        ]
        write_partition(
            store, subject, spec="all", arrays=arrays, roi_rows=rows,
            summary={"n_fitted": 29, "n_masked": 1, "masked": {"not finite": 1}, "edge_share": 0.0, "n_float64": 3,
                     "n_factored": 60, "n_failed": 0},
            stopped={"n_candidates_done": 40, "n_candidates": 60}, nulls={"n_nulls": 1000, "min_shift_trs": 10},
            warnings=[f"{len(subject) + int(subject[-1])} candidates could not be factorised."],
        )  # fmt: skip
    summary = report(store=toy, out=tmp_path / "out", fits=(), partitions=["new"])
    text = Path(summary.page).read_text().replace("\u00a0", " ")
    alone = {(r["stream"], r["family"]): r for r in read_table(tmp_path / "out" / "tables" / "new-alone-table.tsv")}
    expected = [subject_values(s, 3)[1, 20:].mean() for s in q]
    assert float(alone["dorsal", "made-up"]["alone_r2"]) == pytest.approx(np.mean(expected), rel=1e-4)
    joint = {r["stream"]: r for r in read_table(tmp_path / "out" / "tables" / "new-joint-table.tsv")}
    share = np.mean([np.mean([v <= 0.05 for i, v in enumerate(values[:20]) if i != 4]) for values in q.values()])
    assert float(joint["early"]["percent_significant"]) == pytest.approx(100 * share, rel=1e-4)
    ceiling = np.mean([np.nanmedian(2 * subject_values(s, 3)[2, :20]) for s in q])
    assert float(joint["early"]["r2_over_ceiling"]) == pytest.approx(ceiling, rel=1e-4)
    rois = read_table(tmp_path / "out" / "tables" / "new-rois-table.tsv")
    assert [(r["subject"], r["roi"], r["low"]) for r in rois[:2]] == [("sub-01", "V1", "0.1"), ("sub-01", "V2", "n/a")]
    assert "The search was stopped early in all 2 subjects, after 40 of 60 candidates" in text
    assert "2 of 60 targets have no score: 2 NaN or infinite" in text
    assert "6 of 120 factorisations (5.0 %)" in text
    assert "1,000 null data sets" in text
    # Two subjects, two numbers, one kind of warning.
    box = text[text.index('<aside class="warnings"') : text.index("</aside>")]
    assert box.count("could not be factorised.") == 1
    assert "(partitions/new/toy/sub-01 and 1 more, with other numbers)" in box
