"""Turn the name of a node type into what its nodes hold: the table that docs/store-format.md spells out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from brainsim.core.registry import Registry


@dataclass(frozen=True)
class NodeType:
    """What nodes of one type hold.

    Parameters
    ----------
    name : str
        The type.
    path : str
        Where its nodes lie.
    dims : mapping of str to tuple of str
        Axis names of each array that the type defines. Nodes may hold more arrays.
    required : tuple of str
        Arrays that every node of the type holds.
    version : int
        Version of this type's arrays and attributes; readers refuse later ones.
    """

    name: str
    path: str
    dims: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    version: int = 1


# Types may be used without being registered: an analysis that somebody adds brings its own. They have version 1.
NODE_TYPES: Registry[NodeType] = Registry("node type", hint="brainsim store ls")

_TARGETS = ("target",)
_FOLD_TARGETS = ("fold", "target")
_BAND_TARGETS = ("band", "target")
_SUBSET_TARGETS = ("subset", "target")
_FAMILY_TARGETS = ("family", "target")


def _of_regions(**dims: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Return the axes of arrays that there are of ROIs and of streams."""
    return {f"{of}_{name}": (of, *rest) for of in ("roi", "stream") for name, rest in dims.items()}


for _row in (
    NodeType("stimulus", "stimuli/{stimulus}", {"frame_time_s": ("frame",)}, ("frame_time_s",)),
    NodeType(
        "activations",
        "activations/{feature_set}/{layer}/{stimulus}",
        {"values": ("time", "feature"), "time_s": ("time",), "window_s": ("time", "bound")},
        ("values", "time_s", "window_s"),
    ),
    NodeType(
        "targets",
        "rois/{dataset}/{subject}",
        {
            "ijk": ("target", "axis"),
            "membership": ("roi", "target"),
            "place_index": ("place", "axis"),
            "explainable_variance": _TARGETS,
            "reliability": _TARGETS,
            "ceiling": _TARGETS,
        },
        ("ijk", "membership"),
    ),
    NodeType("ceilings", "ceilings/{dataset}/between-subjects", {"between_subjects_r": ("subject", "target")}),
    NodeType(
        "bold",
        "bold/{dataset}/{subject}/{run}",
        {
            "values": ("time", "target"),
            "valid": _TARGETS,
            "kept": ("time",),
            "dvars": ("time",),
            "outlier": ("time",),
            "displacement_mm": ("time",),
        },
        ("values", "valid"),
    ),
    NodeType("kernel", "kernels/{digest16}", {"K": ("time", "time_other")}, ("K",)),
    NodeType("gram", "grams/{digest16}", {"products": ("pair",), "sums": ("time",)}, ("products", "sums")),
    NodeType(
        "fit",
        "fits/{name}/{dataset}/{subject}",
        {
            "r2": _TARGETS,
            "r": _TARGETS,
            "r2_folds": _FOLD_TARGETS,
            "r_folds": _FOLD_TARGETS,
            "split_r2": _BAND_TARGETS,
            "weight": _BAND_TARGETS,
            "alpha_index": _FOLD_TARGETS,
            "layer_r2": ("layer", "target"),
            "predicted": ("time", "target"),
            "band_predicted": ("time", "band", "target"),
            "dual_weights": ("time", "fold", "target"),
            "gamma_folds": ("fold", "band", "target"),
            "p": _TARGETS,
            "q": _TARGETS,
            "joint_normalised": _TARGETS,
            **_of_regions(n_targets=(), r2_folds=("fold",), tested_joint=(), null_joint=("null",)),
        },
        ("r2", "r"),
    ),
    NodeType(
        "partition",
        "partitions/{name}/{dataset}/{subject}",
        {
            "subset_r2": _SUBSET_TARGETS,
            "subset_r": _SUBSET_TARGETS,
            "unique": _FAMILY_TARGETS,
            "parts": _SUBSET_TARGETS,
            "shapley": _FAMILY_TARGETS,
            "product": _FAMILY_TARGETS,
            "joint_p": _TARGETS,
            "joint_q": _TARGETS,
            "unique_p": _FAMILY_TARGETS,
            "unique_q": _FAMILY_TARGETS,
            "joint_normalised": _TARGETS,
            **_of_regions(
                n_targets=(),
                subset_r2=("subset", "fold"),
                product=("family",),
                tested_joint=(),
                null_joint=("null",),
                tested_unique=("family",),
                null_unique=("family", "null"),
            ),
        },
        ("subset_r2",),
    ),
    NodeType("partition-group", "partitions/{name}/{dataset}/group"),
    NodeType(
        "rsa",
        "rsa/{name}/{dataset}/{subject}",
        {
            "layer_score": ("layer", "stream"),
            "model_score": ("model", "stream"),
            "best_score": ("model", "stream"),
            "best_layer": ("model", "stream"),
            "layer_weight": ("layer", "stream"),
            "layer_score_folds": ("layer", "stream", "fold"),
            "model_score_folds": ("model", "stream", "fold"),
            "together_folds": ("stream", "fold"),
            "pair_score": ("model", "model_other", "stream"),
            "residual_score": ("model", "model_other", "stream"),
            "subset_r2_folds": ("subset", "stream", "fold"),
            "joint_score_folds": ("set", "stream", "fold"),
        },
        ("layer_score", "model_score"),
    ),
    NodeType("rsa-group", "rsa/{name}/{dataset}/group"),
    NodeType(
        "rsa-pictures",
        "pictures/{name}/{dataset}",
        {"picture": ("rdm", "pixel", "pixel_other"), "similarity": ("item", "item_other")},
        ("picture", "similarity"),
    ),
    NodeType("rsa-audit", "audits/{name}/{dataset}"),
    NodeType("claims", "claims/{name}/{dataset}"),
    NodeType("accuracy", "accuracy/{name}/{dataset}"),
    NodeType("truth", "truth/{dataset}"),
    NodeType("work", "work/{digest16}", {"reason": _TARGETS, "at_edge": ("fitted",)}, ("reason", "at_edge")),
):
    NODE_TYPES.add(_row.name, _row)
