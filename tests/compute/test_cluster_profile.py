"""A cluster's profile in TOML: the same options as the words of the command line, which go before it."""

from __future__ import annotations

from pathlib import Path

import pytest

from brainsim.commands.cluster_words import read_cluster_words
from brainsim.core.errors import BrainsimError

PROFILE = """
cluster = "slurm"
n_workers = 20
queue = "normal"
walltime = "04:00:00"
cores_per_worker = 8
directives = ["--gres=gpu:1", "--constraint=a100"]
"""


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    path = tmp_path / "lab.toml"
    path.write_text(PROFILE)
    return path


def test_a_profile_is_what_its_words_are(profile: Path) -> None:
    words = ["queue=normal", "walltime=04:00:00", "cores_per_worker=8", "directives=--gres=gpu:1",
             "directives=--constraint=a100"]  # fmt: skip
    assert read_cluster_words(str(profile), 0, []) == read_cluster_words("slurm", 20, words)


def test_words_go_before_the_profile(profile: Path) -> None:
    options = read_cluster_words(str(profile), 3, ["queue=short", "directives=--exclusive"])
    assert (options.n_workers, options.queue, options.directives, options.walltime) == (
        3, "short", ("--exclusive",), "04:00:00",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("queue = 3\ncluster = 'slurm'", "queue is 3 in .*; it must be a text"),
        ("n_workers = '3'\ncluster = 'slurm'", "n_workers is '3' in .*; it must be a whole number"),
        ("n_workers = true\ncluster = 'slurm'", "it must be a whole number"),
        ("directives = [1]\ncluster = 'slurm'", "it must be a list of texts"),
        ("partition = 'x'\ncluster = 'slurm'", "has the key 'partition'; allowed are cluster, n_workers"),
        ("queue = 'x'", "does not say which cluster"),
        ("cluster = 'moon'", "--cluster is 'moon'"),
        ("cluster = 'local'\nqueue = 'x'", "does not use it"),
        ("cluster =", "is no TOML"),
        ("cluster = 'slurm'\nwalltime = 'soon'", "the walltime is 'soon'"),
    ],
)
def test_profiles_that_cannot_be_meant_are_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "lab.toml"
    path.write_text(text)
    with pytest.raises(BrainsimError, match=said):
        read_cluster_words(str(path), 0, [])


def test_a_profile_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BrainsimError, match="no cluster profile at"):
        read_cluster_words(str(tmp_path / "none.toml"), 0, [])
