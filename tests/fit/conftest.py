"""A small store that is made once for a file of tests, and a copy of it for each test that writes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fit_store import make_store


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store that no test changes."""
    return make_store(tmp_path_factory.mktemp("made") / "store.zarr")


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    """Return a copy of it that is a test's own."""
    return Path(shutil.copytree(made, tmp_path / "store.zarr"))
