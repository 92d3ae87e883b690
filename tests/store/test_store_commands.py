"""store_ls, store_show and store_verify tell a store's state in values that JSON holds."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import FrozenInstanceError, asdict
from pathlib import Path

import numpy as np
import pytest

from brainsim.commands.store import store_ls, store_show, store_verify
from brainsim.core.errors import StoreError, UnknownNameError
from brainsim.store import NODE_TYPES, ArraySpec, Store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    store = Store(tmp_path / "s.zarr", "a")
    for run in ("run-1", "run-2", "run-3"):
        arrays = {"X": np.ones((4, 2), np.float32)}
        store.write(f"bold/a/{run}", type="toy", key={"run": run, "seed": 5}, arrays=arrays, attributes={"tr_s": 2.0})
    with store.writer("fits/a", type="toy", key={}, arrays={"r": ArraySpec((None,))}):
        pass
    (store.path / "bold/a/run-1/X/c/0/0").unlink()
    (store.path / "bold/a/run-3/zarr.json").write_text("{")
    return store.path


def test_ls_lists_complete_unfinished_and_damaged_nodes(path: Path) -> None:
    listing = store_ls(path)
    assert [(n["path"], n["state"]) for n in listing.nodes] == [
        ("bold/a/run-1", "complete"),
        ("bold/a/run-2", "complete"),
        ("bold/a/run-3", "damaged"),
        ("fits/a", "unfinished"),
    ]
    assert (listing.n_nodes, listing.n_unfinished, listing.n_damaged) == (2, 1, 1)
    assert listing.nodes[1]["arrays"] == {"X": [[4, 2], "float32"]}
    assert listing.nbytes == sum(n["nbytes"] for n in listing.nodes) > 0
    assert store_ls(path, "bold/*/run-2").n_nodes == 1


def test_show_shows_one_node(path: Path) -> None:
    shown = store_show(path, "bold/a/run-2/")
    assert shown.arrays == {"X": {"shape": [4, 2], "dtype": "float32"}}
    assert (shown.key, shown.attributes, shown.seed) == ({"run": "run-2", "seed": 5}, {"tr_s": 2.0}, 5)
    with pytest.raises(UnknownNameError, match="did you mean"):
        store_show(path, "bold/a/run2")
    with pytest.raises(FrozenInstanceError):
        shown.node = "x"  # type: ignore[misc]  # that it is frozen is what is tested


def test_verify_tells_damage_from_unfinished_work(path: Path) -> None:
    found = store_verify(path)
    assert not found.ok
    assert [(d["node"], d["chunk"]) for d in found.damages] == [("bold/a/run-3", None), ("bold/a/run-1", "X/c/0/0")]
    assert found.unfinished == ("fits/a",)
    assert store_verify(path, prefix="bold/a/run-2").ok


def test_summaries_are_json(path: Path) -> None:
    for summary in (store_ls(path), store_show(path, "bold/a/run-2"), store_verify(path)):
        assert json.loads(json.dumps(asdict(summary)))


def test_no_store_is_a_named_error(tmp_path: Path) -> None:
    for call in (store_ls, store_verify, lambda store: store_show(store, "a")):
        with pytest.raises(StoreError, match="there is no store at"):
            call(tmp_path / "none.zarr")


def test_listing_imports_neither_zarr_nor_torch(path: Path) -> None:
    script = (
        "import sys; import brainsim.commands.store as c; assert 'numpy' not in sys.modules, 'numpy'; "
        "c.store_ls(sys.argv[1]); assert not {'zarr', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)


def test_the_specification_names_every_type_array_and_axis() -> None:
    text = (Path(__file__).parents[2] / "docs/store-format.md").read_text()
    for name, row in NODE_TYPES.items():
        assert f"`{name}`" in text
        assert f"`{row.path}`" in text
        for array, dims in row.dims.items():
            assert f"`{array}`" in text, (name, array)
            for dim in dims:
                assert dim in text
