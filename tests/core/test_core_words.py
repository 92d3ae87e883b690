"""The words of every room: names and near misses, checks, runs and folds, TRs, seeds, memory, digests."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from brainsim.core import resources
from brainsim.core.checks import check_choice, check_count, check_file, check_folder, check_node_name, check_number
from brainsim.core.errors import BrainsimError, InputFileError, InvalidValueError, UnknownNameError
from brainsim.core.provenance import canonical_json, digest, digest_file
from brainsim.core.registry import Registry
from brainsim.core.runs import RunLayout, folds_by_block, folds_by_run
from brainsim.core.seeds import named_rng, named_seed
from brainsim.core.timing import TrGrid

LAYOUT = RunLayout(("a", "b", "c"), (10, 7, 13))


def test_unknown_names_come_with_near_misses() -> None:
    registry: Registry[int] = Registry("model", hint="brainsim models list")
    registry.add("videomae-base", 1)
    registry.register("mvd-base")(2)
    with pytest.raises(UnknownNameError, match=r"unknown model 'videomae-bas'; did you mean 'videomae-base'") as error:
        registry["videomae-bas"]
    assert error.value.hint == "brainsim models list"
    with pytest.raises(UnknownNameError, match="allowed: videomae-base, mvd-base"):
        registry["zzzz"]
    with pytest.raises(InvalidValueError, match="registered already"):
        registry.add("mvd-base", 3)
    assert registry.get("zzzz") is None
    assert registry.get("mvd-base") == 2
    registry.remove("mvd-base")
    assert list(registry) == ["videomae-base"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, 11.0])
def test_numbers_out_of_bounds_are_told_with_the_bounds(value: float) -> None:
    with pytest.raises(InvalidValueError, match=r"TR is .* s; it must be above 0 and at most 10 s\."):
        check_number("TR", value, above=0, at_most=10, unit="s")


def test_checks_return_what_is_right_and_name_what_is_wrong(tmp_path: Path) -> None:
    assert check_choice("--cv", "runs", ("runs", "blocks")) == "runs"
    with pytest.raises(InvalidValueError, match="did you mean 'runs'"):
        check_choice("--cv", "run", ("runs", "blocks"))
    for wrong in (0, True, 1.5):
        with pytest.raises(InvalidValueError, match="whole number"):
            check_count("n", wrong)  # type: ignore[arg-type]  # what a user may pass
    with pytest.raises(InputFileError, match="folder"):
        check_file(tmp_path)
    with pytest.raises(InputFileError, match="no folder"):
        check_folder(tmp_path / "absent")
    assert check_node_name("sub-01") == "sub-01"
    for name in ("", ".x", "a/b", "a b", "*"):
        with pytest.raises(InvalidValueError):
            check_node_name(name)


def test_folds_by_run_cover_every_row_once() -> None:
    folds = folds_by_run(LAYOUT)
    np.testing.assert_array_equal(np.concatenate([f.test for f in folds]), np.arange(30))
    assert all(np.array_equal(f.test, f.excluded) for f in folds)
    with pytest.raises(InvalidValueError, match="at least 3") as error:
        folds_by_run(RunLayout(("a", "b"), (10, 10)))
    assert "--cv blocks" in str(error.value)


@pytest.mark.parametrize("gap", [0, 1, 2])
def test_blocks_keep_their_gap_within_the_run(gap: int) -> None:
    run = np.repeat(np.arange(3), LAYOUT.n_trs)
    folds = folds_by_block(LAYOUT, n_blocks=6, gap=gap)
    np.testing.assert_array_equal(np.concatenate([f.test for f in folds]), np.arange(30))
    for fold in folds:
        near = [
            row
            for row in range(30)
            if any(abs(row - t) <= gap and (row == t or run[row] in run[fold.test]) for t in fold.test)
        ]
        np.testing.assert_array_equal(fold.excluded, near)


def test_impossible_runs_and_blocks_are_named() -> None:
    for names, n_trs in ((("a",), (1, 2)), (("a", "a"), (3, 3)), (("a",), (0,)), ((), ())):
        with pytest.raises(InvalidValueError):
            RunLayout(names, n_trs)
    for n_blocks, gap in ((2, 0), (31, 0), (3, -1), (3, 5)):
        with pytest.raises(InvalidValueError, match=r"--blocks|--gap"):
            folds_by_block(LAYOUT, n_blocks=n_blocks, gap=gap)


def test_a_time_belongs_to_the_tr_that_ends_with_it() -> None:
    grid = TrGrid(3, 2.0, start_s=-1.0)
    np.testing.assert_array_equal(
        grid.tr_of(np.array([-1.5, -1.0, -0.5, 1.0, 1.001, 5.0, 5.5])), [-1, -1, 0, 0, 1, 2, 3]
    )
    with pytest.raises(InvalidValueError, match="TR is 2000 s"):
        TrGrid(3, 2000.0)


def test_seeds_depend_on_their_names_and_nothing_else() -> None:
    assert named_seed(0, "sketch", 1) == named_seed(0, "sketch", 1) != named_seed(1, "sketch", 1)
    assert named_seed(0, "a", "b") != named_seed(0, "ab")
    np.testing.assert_array_equal(named_rng(3, "x").random(4), named_rng(3, "x").random(4))


V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", "memory/", "4:memory:")
V2 = ("memory.max", "memory.current", "inactive_file", "", "0::")


@pytest.mark.parametrize("names", [V1, V2], ids=["v1", "v2"])
@pytest.mark.parametrize("group", ["", "slurm/uid_1/job_7/step_0"], ids=["container", "job"])
@pytest.mark.parametrize(("limit", "expected"), [("1073741824", 2**30), ("max", None), (str(2**62), None)])
def test_memory_is_that_of_the_container_or_the_job(
    limit: str,
    expected: int | None,
    group: str,
    names: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limit_name, use_name, droppable, root, membership = names
    limited = tmp_path / root / group.removesuffix("/step_0")
    (tmp_path / root / group).mkdir(parents=True, exist_ok=True)
    (limited / limit_name).write_text(limit + "\n")
    (limited / use_name).write_text(str(2**29))
    (limited / "memory.stat").write_text(f"anon 5\n{droppable} {2**28}\n")
    (tmp_path / "membership").write_text(f"9:name=systemd:/x\n1:cpu:/y\n{membership}/{group}\n")
    monkeypatch.setattr(resources, "_CGROUP_ROOT", tmp_path)
    monkeypatch.setattr(resources, "_CGROUP_MEMBERSHIP", tmp_path / "membership")
    physical = resources._physical_memory()
    assert resources.memory_limit_bytes() == (expected or physical)
    if expected:
        assert resources.memory_free_bytes() == expected - 2**29 + 2**28  # what is cached of files counts as free
    assert 0 < resources.memory_free_bytes() <= physical
    assert resources.disk_free_bytes(tmp_path / "not" / "there") > 0


def test_a_worker_keeps_to_the_share_it_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BRAINSIM_N_CORES", raising=False)
    all_cores = resources.n_cores()
    for told, expected in (("1", 1), ("9999", all_cores), ("", all_cores), ("many", all_cores), ("0", all_cores)):
        monkeypatch.setenv("BRAINSIM_N_CORES", told)
        assert resources.n_cores() == expected
    monkeypatch.setenv("BRAINSIM_MEMORY_BYTES", str(2**32))
    assert resources.memory_limit_bytes() == 2**32
    assert 0 < resources.memory_free_bytes() < 2**32  # this process has some of it already
    monkeypatch.setenv("BRAINSIM_MEMORY_BYTES", "1000")
    assert resources.memory_free_bytes() == 0


def test_digests_are_of_the_value_not_of_its_order(tmp_path: Path) -> None:
    assert digest({"a": 1, "b": [1.5, None]}) == digest({"b": [1.5, None], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    assert canonical_json({"b": 1, "a": "é"}) == '{"a":"\\u00e9","b":1}'
    with pytest.raises(ValueError, match="JSON"):
        digest(float("nan"))
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    assert digest_file(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_an_error_reads_as_its_sentence_and_hint() -> None:
    assert str(BrainsimError("It is wrong.", hint="do this")) == "It is wrong. Hint: do this"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the system's account of a process is Linux's")
def test_what_was_freed_goes_back_to_the_system() -> None:
    """Memory is known by what the system counts for this process: blocks of 8 MiB between small ones that stay."""
    resources.map_large_blocks()
    resources.return_freed_memory()
    before = resources._own_memory()
    blocks, kept = [], []
    for _ in range(32):
        blocks.append(np.ones(2**20))
        kept.append(np.ones(100))
    assert resources._own_memory() - before > 200 * 2**20
    blocks.clear()
    resources.return_freed_memory()
    assert resources._own_memory() - before < 32 * 2**20
