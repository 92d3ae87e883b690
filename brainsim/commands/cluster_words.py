"""Turn a user's words for a cluster, or a profile in TOML, into its checked options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainsim.core.errors import InputFileError, InvalidValueError

if TYPE_CHECKING:
    from brainsim.compute.cluster import ClusterOptions

PROFILE_SUFFIX = ".toml"


def read_cluster_words(kind: str, n_workers: int, texts: Sequence[str]) -> ClusterOptions:
    """Return where tasks run.

    Parameters
    ----------
    kind : str
        "threads", "local", "slurm" or "cuda"; or a profile: a .toml file with the key `cluster`, which is one of
        these, and any of n_workers and the words of `texts`.
    n_workers : int
        Workers; 0 takes what the profile says, or what there is.
    texts : sequence of str
        Further words, each KEY=VALUE; they go before those of the profile.

    Raises
    ------
    InputFileError
        A profile that is not there or is no TOML.
    InvalidValueError
        Words that the cluster does not know, or values of another type.
    """
    from brainsim.compute.cluster import ClusterOptions

    defaults = {f.name: f.default for f in fields(ClusterOptions) if f.name not in ("kind", "n_workers")}
    profile: dict[str, Any] = {}
    if kind.endswith(PROFILE_SUFFIX):
        profile = _read_profile(Path(kind), {"cluster": "", "n_workers": 0, **defaults})
        kind = profile.pop("cluster")
        n_workers = n_workers or profile.pop("n_workers", 0)
        profile.pop("n_workers", None)
    words: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name not in defaults:
            raise InvalidValueError(
                f"--cluster-options has {text!r}; allowed are KEY=VALUE with the keys {', '.join(defaults)}.",
                hint="--cluster-options queue=short,walltime=02:00:00",
            )
        if isinstance(defaults[name], tuple):
            words[name] = (*words.get(name, ()), value)
        elif isinstance(defaults[name], int):
            if not value.isdecimal():
                raise InvalidValueError(f"{name} is {value!r} in --cluster-options; it must be a whole number.")
            words[name] = int(value)
        else:
            words[name] = value
    return ClusterOptions(kind=kind, n_workers=n_workers, **{**profile, **words})


def _read_profile(path: Path, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the words of a profile, each of the type of its default."""
    import tomllib

    try:
        profile = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputFileError(
            f"there is no cluster profile at {path} ({error.strerror or error}).", hint="--cluster local needs none"
        ) from None
    except ValueError as error:
        raise InputFileError(f"{path} is no TOML ({error}).") from error
    for name, value in profile.items():
        if name not in defaults:
            raise InvalidValueError(f"{path} has the key {name!r}; allowed are {', '.join(defaults)}.")
        wanted = {tuple: list, int: int, str: str}[type(defaults[name])]
        texts = value if isinstance(value, list) else [value] if wanted is str else []
        if type(value) is not wanted or not all(isinstance(text, str) for text in texts):
            kind = {list: "a list of texts", int: "a whole number", str: "a text"}[wanted]
            raise InvalidValueError(f"{name} is {value!r} in {path}; it must be {kind}.")
    if "cluster" not in profile:
        raise InvalidValueError(f"{path} does not say which cluster it is for.", hint='cluster = "slurm"')
    return {name: tuple(value) if isinstance(value, list) else value for name, value in profile.items()}
