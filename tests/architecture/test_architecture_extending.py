"""A family, a dataset format and an analysis are one file each: those of docs/extending.md are registered and run."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from typer.testing import CliRunner

from brainsim.cli.main import make_app
from brainsim.commands import ANSWER, VERBS, Verb


def block(root: Path, mark: str) -> str:
    """Return the fenced code that follows a mark in docs/extending.md."""
    text = (root / "docs" / "extending.md").read_text()
    found = re.search(rf"<!-- extending:{mark} -->\n```python\n(.*?)```", text, re.DOTALL)
    assert found is not None
    return found.group(1)


@contextmanager
def installed(name: str, code: str) -> Iterator[ModuleType]:
    """Let a module of this name and code exist for the length of a `with` block."""
    module = ModuleType(name)
    sys.modules[name] = module
    try:
        exec(compile(code, name, "exec"), vars(module))
        yield module
    finally:
        del sys.modules[name]


def test_a_family_is_one_file(root_dir: Path) -> None:
    from brainsim.models import MODELS, load_model
    from brainsim.models.catalogue import register_rows

    with installed("brainsim.models.families.toy", block(root_dir, "family")) as module:
        register_rows(module.ROWS)
        try:
            listed = CliRunner().invoke(make_app(), ["models", "list", "--json"])
            model = load_model("toy-blur")
            frames = np.random.default_rng(0).integers(0, 256, (2, 1, 64, 64, 3), np.uint8)
            found = model.activations(frames)
        finally:
            MODELS.remove("toy-blur")
    assert "toy-blur" in [row["name"] for row in json.loads(listed.stdout)["models"]]
    by_hand = frames[:, 0].astype(np.float64).reshape(2, 4, 16, 4, 16, 3).mean(axis=(2, 4)) / 255
    np.testing.assert_allclose(found["coarse"].numpy(), by_hand.transpose(0, 3, 1, 2), rtol=1e-5)


def test_a_claim_is_one_file(root_dir: Path) -> None:
    from brainsim.stats.claims import CLAIMS, Scores, answer_claims
    from brainsim.stats.claims.catalogue import register_claims, select_claims
    from brainsim.stats.claims.statistics import STATISTICS

    systems = ("cnn-flow-selfsup", "cnn-flow-action", "cnn-static-object", "cnn-static-action")
    noise = np.random.default_rng(0).normal(0, 0.01, (4, 8, 2))  # of 8 subjects and 2 streams
    sets = {frozenset((s,)): 0.1 * (i == 1) + noise[i] for i, s in enumerate(systems)}
    scores = Scores("toy", "encoding", tuple("abcdefgh"), ("early", "late"), sets)
    with installed("toy_claims", block(root_dir, "claim")) as module:
        register_claims(module.ROWS)
        try:
            (answer,) = answer_claims(select_claims(["best-*"]), [scores])
        finally:
            CLAIMS.remove("best-is-dynamic")
            STATISTICS.remove("best")
    assert answer.answer == "supported"
    by_hand = (np.maximum(*[sets[frozenset((s,))] for s in systems[:2]])
               - np.maximum(*[sets[frozenset((s,))] for s in systems[2:]])).mean()  # fmt: skip
    assert answer.rows[0]["estimate"] == pytest.approx(by_hand)


def test_a_dataset_format_and_an_analysis_are_one_file_each(root_dir: Path, tmp_path: Path) -> None:
    from brainsim.datasets.catalogue import FORMATS

    values = np.cumsum(np.random.default_rng(0).normal(size=(100, 20)), axis=0).astype(np.float32)
    values.tofile(tmp_path / "run-1_n20.raw32")
    store = str(tmp_path / "s.zarr")
    with installed("brainsim.datasets.formats.raw32", block(root_dir, "format")) as module:
        FORMATS.add(module.FORMAT.name, module.FORMAT)
        try:
            words = ["ingest", str(tmp_path / "run-1_n20.raw32"), "--dataset", "mine", "--tr-s", "2", "--store", store]
            ingested = CliRunner().invoke(make_app(), [*words, "--high-pass-s", "none", "--json"])
        finally:
            FORMATS.remove(module.FORMAT.name)
    assert ingested.exit_code == 0, ingested.output
    verb: Verb = eval(block(root_dir, "row").strip().rstrip(","), {"Verb": Verb, "ANSWER": ANSWER})
    with installed(verb.module, block(root_dir, "analysis")):
        app = make_app((*VERBS, verb))
        result = CliRunner().invoke(app, ["smoothness", "mine", "--store", store, "--lags", "1,50", "--json"])
        assert "smoothness" in CliRunner().invoke(app, ["--help"]).stdout
    near, far = json.loads(result.stdout)["rows"]
    z = (values - values.mean(0)) / values.std(0)
    assert near["r"] == pytest.approx((z[1:] * z[:-1]).mean(), abs=0.05)
    assert near["r"] > far["r"]
