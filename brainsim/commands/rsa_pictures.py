"""Turn the RDMs of an RSA, while they are in memory, into the node that a page draws RDMs and their geometry from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from brainsim.commands.rsa_rdms import GroupRdms
    from brainsim.store import Store

# RDMs that are not pictured: nobody compares more by eye.
MAX_PICTURED = 16


@dataclass(frozen=True)
class Pictures:
    """What a node of pictures holds; see docs/store-format.md."""

    arrays: dict[str, np.ndarray]
    attributes: dict[str, Any]


def movie_pictures(
    rdms: GroupRdms, layers: Sequence[Mapping[str, Any]], layer_score: np.ndarray, comparison: str
) -> Pictures:
    """Return pictures of a movie's first block of pairs.

    Parameters
    ----------
    rdms : GroupRdms
        RDMs of subjects who saw the same.
    layers : sequence of dict
        As result nodes list them.
    layer_score : ndarray, (n_layers, ...)
        Similarity of each layer with every target: the best layer of a model is pictured.
    comparison : str
        How RDMs are compared.
    """
    from brainsim.rsa.pictures import average_subjects

    block = rdms.blocks[0]
    streams = [stream for _, stream in rdms.targets]
    return _make_pictures(
        rdms.A, [average_subjects(y, streams) for y in rdms.Y], list(dict.fromkeys(streams)), layers, layer_score,
        comparison, i=block.i, j=block.j, n_rows=len(block.rows), rows="TRs", block=block.name,
        n_subjects=len({subject for subject, _ in rdms.targets}),
    )  # fmt: skip


def stimulus_pictures(
    A: np.ndarray,
    brains: Mapping[str, np.ndarray],
    layers: Sequence[Mapping[str, Any]],
    layer_score: np.ndarray,
    comparison: str,
    *,
    n_stimuli: int,
) -> Pictures:
    """Return pictures of RDMs of stimuli; `brains` holds the subjects' RDMs of each stream, (n_subjects, n_pairs)."""
    from brainsim.rsa.pictures import average_subjects

    i, j = np.triu_indices(n_stimuli, k=1)
    means = [average_subjects(rdms, [stream] * len(rdms))[0] for stream, rdms in brains.items()]
    return _make_pictures(
        [A], [np.stack(means)], list(brains), layers, layer_score, comparison, i=i, j=j, n_rows=n_stimuli,
        rows="stimuli", block="", n_subjects=max(len(rdms) for rdms in brains.values()),
    )  # fmt: skip


def _make_pictures(
    A: Sequence[np.ndarray],
    Y: Sequence[np.ndarray],
    streams: Sequence[str],
    layers: Sequence[Mapping[str, Any]],
    layer_score: np.ndarray,
    comparison: str,
    *,
    i: np.ndarray,
    j: np.ndarray,
    n_rows: int,
    rows: str,
    block: str,
    n_subjects: int,
) -> Pictures:
    """Return pictures of streams and of each model's best layer in the first block, and the likeness of all RDMs.

    Y holds one RDM per stream, (n_streams, n_pairs) per block.
    """
    from brainsim.rsa.combine import standardise
    from brainsim.rsa.pictures import picture, rows_per_pixel, similarity_of_all

    similarity, used = similarity_of_all(A, Y, comparison)
    mean_score = np.nan_to_num(layer_score.reshape(len(layers), -1)).mean(axis=1)
    best: dict[str, int] = {}
    for row, layer in enumerate(layers):
        if layer["model"] not in best or mean_score[row] > mean_score[best[layer["model"]]]:
            best[layer["model"]] = row
    shown = [{"name": name, "kind": "stream"} for name in streams]
    shown += [{"name": f"{m}: {layers[row]['layer']}", "kind": layers[row]["family"]} for m, row in best.items()]
    vectors = [*Y[0], *standardise(A[0][list(best.values())])][:MAX_PICTURED]
    return Pictures(
        arrays={
            "picture": np.stack([picture(v, i, j, n_rows) for v in vectors]),
            "similarity": similarity,
        },
        attributes={
            "pictured": shown[:MAX_PICTURED],
            "layers": list(layers),
            "streams": list(streams),
            "rows": rows,
            "block": block,
            "n_rows": n_rows,
            "n_per_pixel": rows_per_pixel(n_rows),
            "comparison": used,
            "n_subjects": n_subjects,
            "n_blocks": len(A),
        },
    )


def write_pictures(
    store: Store, name: str, dataset: str, key: Mapping[str, Any], pictures: Pictures, *, sources: Sequence[str]
) -> None:
    """Write `pictures/{name}/{dataset}`, beside the result it belongs to; an earlier one of that name is replaced."""
    store.write(
        f"pictures/{name}/{dataset}",
        type="rsa-pictures",
        key={**key, "kind": "rsa-pictures"},
        arrays=pictures.arrays,
        attributes={**pictures.attributes, "dataset": dataset, "sources": list(sources)},
        overwrite=True,
    )
