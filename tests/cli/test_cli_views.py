"""What fit and partition print: the columns that there are, nothing that floods a terminal."""

from __future__ import annotations

import io
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from rich.console import Console

from brainsim.cli.output import tell, tell_p
from brainsim.cli.views import MAX_ROWS, show
from brainsim.commands.extract import ExtractSummary
from brainsim.commands.fit import FitSummary
from brainsim.commands.partition import PartitionSummary
from brainsim.commands.rsa import RsaSummary


def printed(word: str, summary: Any, *, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(show(word, summary))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def row(stream: str, **more: Any) -> dict[str, Any]:
    return {"stream": stream, "mean": 0.1234, "low": 0.1, "high": 0.2, "n_subjects": 4, "n_targets": 99, **more}


PARTITION = PartitionSummary(
    name="nine",
    dataset="mine",
    store="s.zarr",
    subjects=("sub-01",),
    families=tuple(f"family-{i}" for i in range(9)),
    n_subsets=511,
    n_candidates=1200,
    n_alphas=15,
    n_folds=8,
    method="commonality",
    rows=tuple(
        row(s, family=f"family-{f}", quantity="unique", p=0.000999, subjects=[0.1] * 14)
        for s, f in product(("early", "dorsal"), range(9))
    ),
    joint=(row("early", p=0.001), row("dorsal", low=None, high=None)),
    shared=tuple(
        row(s, families=[f"family-{a}", f"family-{b}"])
        for s, a, b in product(("early", "dorsal"), range(3), range(3, 6))
    ),
    search={"n_factored": 700, "n_float64": 12, "edge_share": 0.01, "gain": 0.00042},
    n_nodes_written=1,
    n_nodes_reused=0,
    warnings=("told on stderr",),
    seconds=12.3,
)

FIT = FitSummary(
    name="all",
    dataset="mine",
    store="s.zarr",
    subjects=("sub-01",),
    bands=tuple(f"layer-{i}" for i in range(108)),
    families=("one",),
    n_layers=108,
    n_candidates=60,
    n_alphas=15,
    n_folds=8,
    streams=({"subject": "sub-01", "stream": "early", "n_targets": 10, "mean_r2": 0.1, "share_q_below_0.05": 0.5},),
    search={"n_factored": 700, "n_float64": 0, "edge_share": 0.01, "gain": None},
    n_nodes_written=1,
    n_nodes_reused=2,
    warnings=(),
    seconds=1.0,
)


def test_a_partition_of_511_subsets_fits_on_a_screen_and_shows_p() -> None:
    text = printed("partition", PARTITION)
    assert "511 of 511" in text
    assert "1,200 candidates x 15 alphas, 8 folds; 12 of 700 factorisations in float64" in text
    assert "refinement gained 0.0004 R²" in text
    assert "family-0 & family-4" in text
    assert "family-1 & family-3" not in text  # two of each stream
    assert "R² of all families minus R² of all but this one" in text
    lines = [line.split() for line in text.splitlines() if "family-3" in line]
    assert ["early", "family-3", "0.123", "[0.100,", "0.200]", "<", "0.001", "4", "99"] in lines
    assert len(text.splitlines()) < 40
    assert max(map(len, printed("partition", PARTITION, width=80).splitlines())) <= 80
    assert "told on stderr" not in text


@pytest.mark.parametrize(
    ("p", "told"),
    [(0.0, "< 0.001"), (9.99e-4, "< 0.001"), (0.001, "0.001"), (0.0234, "0.023"), (1.0, "1.000"), (None, "–")],
)
def test_no_chance_is_told_as_zero(p: float | None, told: str) -> None:
    assert tell_p(p) == told
    for name in ("p", "q", "p_subjects", "q_subjects", "p_for", "q_against"):
        assert tell(p, name) == told
    assert tell(0.0004, "share_q_below_0.05") == tell(0.0004, "mean") == "0.000"


def test_an_rsa_shows_small_chances_as_such() -> None:
    rows = ({"stream": "early", "model": "mae-base", "mean": 0.2, "low": 0.1, "high": 0.3, "p": 2e-6, "q": 4e-6},)
    summary = RsaSummary(
        name="geometry", dataset="mine", store="s.zarr", protocol="default", subjects=("sub-01", "sub-02"), n_models=1,
        n_layers=1, distance="correlation", compare="spearman", rows=rows, unique=(), ceilings=(), audit=(),
        n_nodes_written=3, n_nodes_reused=0, warnings=(), seconds=1.0,
    )  # fmt: skip
    text = printed("rsa", summary)
    assert text.count("< 0.001") == 2
    assert "0.000" not in text


def test_columns_that_no_row_fills_are_left_out() -> None:
    rows = tuple({k: v for k, v in r.items() if k != "p"} for r in PARTITION.rows)
    bare = replace(PARTITION, rows=rows, joint=())
    heading = next(line for line in printed("partition", bare).splitlines() if line.startswith("stream"))
    assert heading.split() == ["stream", "family", "R²", "[low,", "high]", "subjects", "targets"]


def test_the_product_measure_is_not_called_unique() -> None:
    rows = tuple({**r, "quantity": "product"} for r in PARTITION.rows)
    text = printed("partition", replace(PARTITION, rows=rows, method="product-measure"))
    assert "it is not unique variance" in text
    assert "all but this one" not in text


def test_a_fit_names_some_of_its_bands_and_cuts_long_tables() -> None:
    text = printed("fit", FIT)
    assert "108: layer-0" in text
    assert "and 96 more" in text
    assert "q <= 0.05" in text
    assert "mean r " not in text
    many = replace(FIT, streams=FIT.streams * (MAX_ROWS + 5))
    assert "… and 5 more rows (--json gives all)" in printed("fit", many)


def test_a_dry_run_says_so() -> None:
    dry = replace(FIT, streams=(), n_nodes_written=0, n_nodes_reused=0)
    assert printed("fit", dry).startswith("Dry run: nothing was written.")
    assert "Dry run" not in printed("fit", FIT)


def test_a_dry_extraction_tells_clips_layers_and_bytes_of_each_layer_model_and_in_all() -> None:
    plan = tuple(
        {
            "node": f"activations/mae@1/blocks.{i}/run-{run}", "model": "mae", "layer": f"blocks.{i}",
            "stimulus": f"run-{run}", "n_clips": 300 * run, "n_features": 1000, "bytes": 300 * run * 4000,
            "state": "reuse" if run == 1 else "write",
        }
        for run, i in product((1, 2), range(12))
    )  # fmt: skip
    summary = ExtractSummary(
        store="s.zarr", feature_sets={"mae": "mae@1"}, stimuli=("run-1", "run-2"), n_nodes_written=12,
        n_nodes_reused=12, n_clips=900, n_padded_clips=0, bytes=12 * 600 * 4000, seconds=0.1, warnings=(),
        dry_run=True, plan=plan,
    )  # fmt: skip
    text = printed("extract", summary)
    assert text.startswith("Dry run: nothing was written.")
    (row,) = [line.split() for line in text.splitlines() if "blocks.7" in line]
    assert row == ["mae", "blocks.7", "900", "1000", "3.4", "MiB", "1", "of", "2"]
    assert "900 clips, 12 layers, 41.2 MiB, in mae@1" in text
    assert "12 nodes, 27.5 MiB; 41.2 MiB with what is there" in text
    assert max(map(len, printed("extract", summary, width=80).splitlines())) <= 80
    done = printed("extract", replace(summary, dry_run=False, plan=()))
    assert "Dry run" not in done
