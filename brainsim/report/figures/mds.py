"""Turn how alike all RDMs are into a map: layers of a system as a path, streams of the brain as places beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from brainsim.report.content import RsaSet
from brainsim.report.content_rsa import GeometrySet
from brainsim.report.figures.canvas import Drawing, draw_legend, finish, legend_height_in, panels
from brainsim.report.figures.layers import order_systems
from brainsim.report.palette import INK, LINE_STYLES, MARKERS, colour_families
from brainsim.report.tables import Cell, Column, Table
from brainsim.report.words import count

HorizontalAlignment = Literal["left", "right", "center"]

LETTER_PT = 6.0  # of a stream's name, bold
N_STEPS = 300  # SMACOF changes nothing that is seen long before


def draw_mds(rsa: RsaSet, geometry: GeometrySet, *, key: str) -> Drawing:
    """Draw systems and streams in two dimensions, so that RDMs that are alike lie near each other."""
    distance = to_distances(geometry.similarity)
    places, stress = scale_to_plane(distance)
    places *= np.where(np.abs(places).max() > 0, 1 / np.abs(places).max(), 1.0)
    systems = order_systems(geometry.layers)
    colours = colour_families([family for _, family in systems])
    n_layers = len(geometry.layers)
    handles: list[Line2D] = []
    rank: dict[str, int] = {}
    figure, (axis,) = panels(
        1, n_columns=1, panel_height_in=5.0, width_in=6.4, left_in=0.2, right_in=0.2, top_in=0.1, bottom_in=0.15,
        legend_in=legend_height_in(len(systems) + 2, 3),
    )  # fmt: skip
    for model, family in systems:
        rank[family] = rank.get(family, -1) + 1
        style: dict[str, Any] = {
            "color": colours[family],
            "linestyle": LINE_STYLES[rank[family] % len(LINE_STYLES)],
            "linewidth": 1.1,
            "markerfacecolor": colours[family] if rank[family] % 2 == 0 else "white",
            "markeredgewidth": 0.8,
        }
        mine = sorted(
            (i for i, y in enumerate(geometry.layers) if y.model == model), key=lambda i: geometry.layers[i].index
        )
        mark = MARKERS[rank[family] % len(MARKERS)]
        axis.plot(*places[mine].T, marker=mark, markersize=2.6, **style)
        axis.plot(*places[mine[-1:]].T, marker=mark, markersize=6.0, **style)
        handles.append(Line2D([], [], marker=mark, markersize=4, label=model, **style))
    for s in range(len(geometry.streams)):
        x, y = places[n_layers + s]
        axis.plot(x, y, marker="*", color=INK, markersize=11, markeredgecolor="white", markeredgewidth=0.8, zorder=6)
    handles.append(Line2D([], [], linestyle="none", marker="*", color=INK, markersize=9, label="stream of the brain"))
    axis.set(xticks=[], yticks=[], aspect="equal")
    axis.margins(0.08)
    axis.set_adjustable("datalim")
    for spine in axis.spines.values():
        spine.set(visible=True, color="#D9DDE2")
    _name_places(axis, places[n_layers:], geometry.streams)
    draw_legend(figure, handles, n_columns=3)
    i, j = np.triu_indices(len(distance), k=1)
    shown = np.linalg.norm(places[i] - places[j], axis=1)
    r = float(np.corrcoef(shown, distance[i, j])[0, 1]) if len(i) > 1 and shown.std() > 0 else float("nan")
    caption = (
        f"Multidimensional scaling of {n_layers} layers and {count(len(geometry.streams), 'stream')} (mean of the "
        "RDMs of "
        f"n = {count(geometry.n_subjects, 'subject')}): the nearer, the more alike two RDMs ({geometry.comparison}, "
        "mean "
        f"over {count(geometry.n_blocks, 'run') if geometry.rows == 'TRs' else 'all stimuli'}). Lines join the "
        "layers of "
        "a system; the large mark is the last. Axes have no meaning and no unit. Two dimensions keep the order of "
        f"distances to r = {r:.2f} (stress {stress:.2f}); RDMs of brains hold noise that no system can be near to."
    )
    nearest = []
    for s, stream in enumerate(geometry.streams):
        to = int(np.argmax(geometry.similarity[n_layers + s, :n_layers]))
        nearest.append(f"{stream}: {geometry.layers[to].model} {geometry.layers[to].name}")
    alt = f"Map of {n_layers} layers and {len(geometry.streams)} streams. Most alike: {'; '.join(nearest)}."
    rows: list[tuple[Cell, ...]] = [
        ("layer", y.model, y.name, y.family, y.index, float(places[i, 0]), float(places[i, 1]),
         *(float(v) for v in geometry.similarity[i, n_layers:]))
        for i, y in enumerate(geometry.layers)
    ]  # fmt: skip
    rows += [
        ("stream", stream, None, None, None, float(places[n_layers + s, 0]), float(places[n_layers + s, 1]),
         *(float(v) for v in geometry.similarity[n_layers + s, n_layers:]))
        for s, stream in enumerate(geometry.streams)
    ]  # fmt: skip
    heads = (
        "kind",
        "system_or_stream",
        "layer",
        "family",
        "index",
        "x",
        "y",
        *(f"similarity_{s}" for s in geometry.streams),
    )
    table = Table(key, "Places of layers and streams", tuple(map(Column, heads)), tuple(rows))
    return finish(figure, key, title="A map of geometries", caption=caption, alt=alt, table=table)


def _name_places(axis: Axes, places: np.ndarray, names: Sequence[str]) -> None:
    """Write names beside their places, on the side where they meet the fewest other names and places."""
    axis.apply_aspect()
    pixels_per_pt = float(axis.get_figure(root=True).dpi) / 72  # type: ignore[union-attr]  # it was made on a figure
    at = axis.transData.transform(places) / pixels_per_pt
    frame = [float(end) / pixels_per_pt for end in axis.bbox.extents]
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in at]
    for (x, y), place, name in zip(at, places, names, strict=True):
        wide = LETTER_PT * len(name)
        beside: list[tuple[tuple[int, int], HorizontalAlignment, tuple[float, float, float, float]]] = [
            ((8, 0), "left", (x + 8, y - 5, x + 8 + wide, y + 5)),
            ((-8, 0), "right", (x - 8 - wide, y - 5, x - 8, y + 5)),
            ((0, 12), "center", (x - wide / 2, y + 7, x + wide / 2, y + 17)),
            ((0, -12), "center", (x - wide / 2, y - 17, x + wide / 2, y - 7)),
        ]
        offset, align, box = min(
            beside, key=lambda one: sum(_meet(one[2], other) for other in taken) + 10 * (not _holds(frame, one[2]))
        )
        taken.append(box)
        axis.annotate(
            name, tuple(place), xytext=offset, textcoords="offset points", ha=align, va="center", fontsize=8,
            fontweight="bold", zorder=7,
        )  # fmt: skip


def _meet(a: Sequence[float], b: Sequence[float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _holds(frame: Sequence[float], box: Sequence[float]) -> bool:
    return frame[0] <= box[0] and frame[1] <= box[1] and box[2] <= frame[2] and box[3] <= frame[3]


def to_distances(similarity: np.ndarray) -> np.ndarray:
    """Return distances of correlations: ``sqrt(2 (1 - r))``, which are Euclidean."""
    distance = np.sqrt(np.clip(2 * (1 - similarity.astype(np.float64)), 0, None))
    np.fill_diagonal(distance, 0)
    return np.asarray(distance)


def scale_to_plane(distance: np.ndarray, *, n_steps: int = N_STEPS) -> tuple[np.ndarray, float]:
    """Return places in the plane whose distances are as near as possible to those given, and their stress.

    Classical scaling (Torgerson 1952) is where SMACOF (de Leeuw 1977) begins; each of its steps lowers the sum of
    squared errors of distances. Nothing is drawn at random.

    Parameters
    ----------
    distance : ndarray, (n, n)
        Symmetric, zero on the diagonal.
    n_steps : int

    Returns
    -------
    ndarray of float64, (n, 2)
        About their mean; the first axis is the longest, and signs are such that the largest value of each axis is
        positive.
    float
        Kruskal's stress: root of the sum of squared errors over the sum of squared distances.
    """
    n = len(distance)
    centre = np.eye(n) - 1 / n
    values, vectors = np.linalg.eigh(-0.5 * centre @ distance**2 @ centre)
    places = np.zeros((n, 2))
    top = vectors[:, ::-1][:, :2] * np.sqrt(values[::-1][:2].clip(min=0))
    places[:, : top.shape[1]] = top
    for _ in range(n_steps):
        now = np.linalg.norm(places[:, None] - places[None], axis=-1)
        ratio = np.where(now > 1e-12, distance / np.where(now > 1e-12, now, 1), 0)
        B = -ratio
        np.fill_diagonal(B, ratio.sum(axis=1))
        moved = B @ places / n
        if np.abs(moved - places).max() < 1e-7:
            break
        places = moved
    places = places - places.mean(axis=0)
    _, _, axes = np.linalg.svd(places, full_matrices=False)
    places = places @ axes.T
    places *= np.sign(places[np.abs(places).argmax(axis=0), [0, 1]] + 1e-300)
    now = np.linalg.norm(places[:, None] - places[None], axis=-1)
    whole = float((distance**2).sum())
    return places, float(np.sqrt(((now - distance) ** 2).sum() / whole)) if whole > 0 else 0.0
