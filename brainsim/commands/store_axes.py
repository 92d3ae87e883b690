"""Turn stored arrays into what their axes are, what the rows of each are called, and of which targets they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from brainsim.core.errors import AlignmentError, UnknownNameError

if TYPE_CHECKING:
    from brainsim.store import NodeInfo, Store

# Array or axis -> attribute that names its rows.
NAMED_BY = {
    "fold": "folds",
    "band": "bands",
    "layer": "layers",
    "subset": "subsets",
    "parts": "parts",
    "family": "families",
    "roi": "roi_names",
    "stream": "streams",
    "subject": "subjects",
    "model": "models",
    "model_other": "models",
    "set": "joint_sets",
}


def find_nodes(store: Store, prefix: str) -> list[NodeInfo]:
    """Return the complete nodes under a path (`Store.nodes`); an error where there are none."""
    found = store.nodes(prefix)
    if not found:
        raise UnknownNameError(
            f"no complete node of the store at {store.path} has the path {prefix!r}.", hint="brainsim store ls"
        )
    return found


def dims_of(info: NodeInfo, name: str) -> tuple[str, ...]:
    """Return the axes of an array, those of its type where the node is too old to tell; empty where none are known."""
    from brainsim.store import NODE_TYPES

    known = NODE_TYPES[info.type].dims if info.type in NODE_TYPES else {}
    return tuple(info.dims.get(name) or known.get(name, ()))


def named_rows(info: NodeInfo, name: str, at: int = 0) -> Sequence[Any] | None:
    """Return what the rows of an axis stand for, as the node tells it: names, lists of names, or mappings.

    Parameters
    ----------
    info : NodeInfo
        The node.
    name : str
        An array.
    at : int
        Which of its axes.

    Returns
    -------
    sequence or None
        One item per row; None where the node does not tell.
    """
    axis, n_rows = dims_of(info, name)[at], info.arrays[name][0][at]
    attribute = NAMED_BY.get(name, NAMED_BY.get(axis, "")) if at == 0 else NAMED_BY.get(axis, "")
    rows: Any = info.attributes.get(attribute, ())
    if axis == "subset" and attribute not in info.attributes:
        rows = _subsets(info)
    rows = list(rows)  # of a mapping, its keys
    return rows if len(rows) == n_rows else None


def row_names(info: NodeInfo, name: str, at: int = 0) -> list[str]:
    """Return what the rows of an axis are called: folds, bands, families, subsets of families …; or their numbers."""
    rows = named_rows(info, name, at)
    if rows is None:
        return [f"{dims_of(info, name)[at]}-{k + 1}" for k in range(info.arrays[name][0][at])]
    return [tell_row(row) for row in rows]


def tell_row(row: Any) -> str:
    """Return the name of a row: MODEL/LAYER of a layer, names of several families with + between them."""
    if isinstance(row, Mapping):
        return "/".join(str(row[key]) for key in ("model", "layer") if key in row)
    return row if isinstance(row, str) else "+".join(row)


def _subsets(info: NodeInfo) -> list[list[str]]:
    """Return the subsets of families whose RDM variance was scored, which follow from what was asked for."""
    from brainsim.variance.lattice import subset_names, subset_plan

    families, spec = list(info.attributes.get("families", ())), info.attributes.get("options", {}).get("subsets")
    return subset_names(families, subset_plan(len(families), spec).masks) if families and spec else []


def targets_of(store: Store, info: NodeInfo, widths: set[int]) -> NodeInfo:
    """Return the node of the targets that a node's numbers are of.

    Parameters
    ----------
    store : Store
        The store of both.
    info : NodeInfo
        Targets, a run, or a result.
    widths : set of int
        How many targets its arrays have.

    Raises
    ------
    UnknownNameError
        The node of the targets is gone, or `info` does not say which it is.
    AlignmentError
        It was made anew since, with other targets.
    """
    path = _targets_path(info)
    if not store.has(path):
        raise UnknownNameError(
            f"{info.path} is of the targets of {path}, which the store does not hold.", hint="brainsim store ls rois"
        )
    targets = store.info(path)
    made_from = _targets_digest(info)
    n_targets = targets.arrays["ijk"][0][0]
    if (made_from is not None and made_from != targets.digest) or widths - {n_targets}:
        raise AlignmentError(
            f"{info.path} has {', '.join(map(str, sorted(widths)))} targets and was made before {path}, which now "
            f"holds {n_targets} others.",
            hint="make it again with --overwrite",
        )
    return targets


def _targets_path(info: NodeInfo) -> str:
    if info.type == "targets":
        return info.path
    if info.type == "bold":
        return f"rois/{info.attributes['dataset']}/{info.attributes['subject']}"
    found = [path for path in info.attributes.get("sources", ()) if path.startswith("rois/")]
    if not found:
        raise UnknownNameError(f"{info.path} does not say which targets its numbers are of.", hint="--format npy")
    return str(found[0])


def _targets_digest(info: NodeInfo) -> str | None:
    """Return the digest of the targets that a node was made with, where its key tells."""
    made_from = info.key.get("data") if info.type in ("fit", "partition") else [info.key.get("targets")]
    return None if info.type in ("targets", "ceilings") or not made_from else made_from[0]
