"""Turn stored answers to claims, and stored accuracies, into what a page tells of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from brainsim.report.content import AccuracySet, ClaimsSet
from brainsim.store import NodeInfo

CHANGED = "Results have changed since these answers were given; run the command again with --overwrite."


def find_answers(index: Mapping[str, NodeInfo], datasets: Iterable[str]) -> list[NodeInfo]:
    """Return the nodes of claims and accuracies of some datasets."""
    wanted = set(datasets)
    return [
        info
        for info in index.values()
        if info.type in ("claims", "accuracy") and info.complete and info.attributes["dataset"] in wanted
    ]


def is_of_results(index: Mapping[str, NodeInfo], info: NodeInfo, shown: Iterable[str]) -> bool:
    """Return whether an answer is one of chosen results.

    Every result that it was made from, and that is still there, must have nodes among the shown; one must be there.
    """
    made_from = {_result_of(path) for path in info.attributes.get("sources", []) if path in index}
    return bool(made_from) and made_from <= set(map(_result_of, shown))


def _result_of(path: str) -> str:
    """Return the result that a node of a subject, or of the group, belongs to: ``rsa/{name}/{dataset}``."""
    return "/".join(path.split("/")[:3])


def is_outdated(index: Mapping[str, NodeInfo], info: NodeInfo) -> bool:
    """Return whether a result that an answer was made from is gone or another one now."""
    made_from = info.key.get("results", [])
    return any(path not in index or index[path].digest != digest for path, digest in made_from)


def read_claims(info: NodeInfo) -> ClaimsSet:
    """Return the answers of one node."""
    a: Mapping[str, Any] = info.attributes
    return ClaimsSet(
        name=info.path.split("/")[1],
        dataset=str(a["dataset"]),
        answers=tuple(a["answers"]),
        tests=tuple(a.get("tests", ())),
        rules=a.get("rules", {}),
        readings={claim["name"]: str(claim.get("reading", "")) for claim in a.get("claims", [])},
        # Why a claim was not tested stands beside its answer.
        warnings=tuple(str(w) for w in a.get("warnings", []) if " is not tested: " not in str(w)),
    )


def read_accuracy(info: NodeInfo) -> AccuracySet:
    """Return the accuracies and correlations of one node."""
    a: Mapping[str, Any] = info.attributes
    return AccuracySet(
        name=info.path.split("/")[1],
        dataset=str(a["dataset"]),
        rows=tuple(a["rows"]),
        correlations=tuple(a["correlations"]),
        method=str(a.get("method", "kendall")),
        warnings=tuple(map(str, a.get("warnings", []))),
    )
