"""Turn the machine into one where tests are alike everywhere: no network, no windows, shared data where they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Before anything imports the libraries that read them.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "Agg"

ROOT = Path(__file__).resolve().parent.parent


def find_shared(root: Path = ROOT) -> Path | None:
    """Return the folder of real data, from BRAINSIM_SHARED or beside the checkout; None where there is none."""
    told = os.environ.get("BRAINSIM_SHARED")
    places = [Path(told)] if told else [root / "shared", root.parent / "shared"]
    return next((place for place in places if (place / "data").is_dir()), None)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Return the folder of real data; skip the test where it is absent."""
    found = find_shared()
    if found is None:
        pytest.skip("no real data: set BRAINSIM_SHARED to a folder with data/, or put shared/ beside the checkout")
    return found


@pytest.fixture(scope="session")
def root_dir() -> Path:
    """Return the checkout."""
    return ROOT
