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
    block = rdms.blocks[0]
    n_subjects = len({subject for subject, _ in rdms.targets})
    return make_pictures(
        rdms.A, rdms.Y, [stream for _, stream in rdms.targets], layers, layer_score, comparison,
        i=block.i, j=block.j, n_rows=len(block.rows), rows="TRs", block=block.name, n_subjects=n_subjects,
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
    i, j = np.triu_indices(n_stimuli, k=1)
    streams = [stream for stream, rdms in brains.items() for _ in rdms]
    return make_pictures(
        [A], [np.concatenate(list(brains.values()))], streams, layers, layer_score, comparison,
        i=i, j=j, n_rows=n_stimuli, rows="stimuli", block="", n_subjects=len(next(iter(brains.values()))),
    )  # fmt: skip


def make_pictures(
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
    """Return pictures of streams and of each model's best layer in the first block, and the likeness of all RDMs."""
    from brainsim.rsa.combine import standardise
    from brainsim.rsa.pictures import average_subjects, picture, rows_per_pixel, similarity_of_all

    averaged = [average_subjects(y, streams) for y in Y]
    names = averaged[0][0]
    similarity, used = similarity_of_all(A, [mean for _, mean in averaged], comparison)
    mean_score = np.nan_to_num(layer_score.reshape(len(layers), -1)).mean(axis=1)
    best: dict[str, int] = {}
    for row, layer in enumerate(layers):
        if layer["model"] not in best or mean_score[row] > mean_score[best[layer["model"]]]:
            best[layer["model"]] = row
    shown = [{"name": name, "kind": "stream"} for name in names]
    shown += [{"name": f"{m}: {layers[row]['layer']}", "kind": layers[row]["family"]} for m, row in best.items()]
    vectors = [*averaged[0][1], *standardise(A[0][list(best.values())])][:MAX_PICTURED]
    return Pictures(
        arrays={
            "picture": np.stack([picture(v, i, j, n_rows) for v in vectors]),
            "similarity": similarity,
        },
        attributes={
            "pictured": shown[:MAX_PICTURED],
            "layers": list(layers),
            "streams": names,
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
