"""Turn a user's words for a cluster into its checked options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from brainsim.core.errors import InvalidValueError

if TYPE_CHECKING:
    from brainsim.compute.cluster import ClusterOptions


def read_cluster_words(kind: str, n_workers: int, texts: Sequence[str]) -> ClusterOptions:
    """Return where tasks run.

    Parameters
    ----------
    kind : str
        "threads", "local", "slurm" or "cuda".
    n_workers : int
        Workers; 0 takes what there is.
    texts : sequence of str
        Further words, each KEY=VALUE.

    Raises
    ------
    InvalidValueError
        Words that the cluster does not know.
    """
    from brainsim.compute.cluster import ClusterOptions

    known = {field.name: field for field in fields(ClusterOptions) if field.name not in ("kind", "n_workers")}
    words: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name not in known:
            raise InvalidValueError(
                f"--cluster-options has {text!r}; allowed are KEY=VALUE with the keys {', '.join(known)}.",
                hint="--cluster-options queue=short,walltime=02:00:00",
            )
        default = known[name].default
        if isinstance(default, tuple):
            words[name] = (*words.get(name, ()), value)
        elif isinstance(default, int):
            if not value.isdecimal():
                raise InvalidValueError(f"{name} is {value!r} in --cluster-options; it must be a whole number.")
            words[name] = int(value)
        else:
            words[name] = value
    return ClusterOptions(kind=kind, n_workers=n_workers, **words)
