"""Turn families, systems and streams into colours and marks that stay the same on every figure.

Colours: Okabe and Ito, "Color Universal Design" (2008), which colour-blind readers can tell apart. Systems that see
single images are blue, systems that see movement are warm, so that the study's question can be read from the hue.
"""

from __future__ import annotations

from collections.abc import Sequence

FAMILY_COLOURS = {
    "static-cnn": "#0072B2",
    "dynamic-cnn": "#D55E00",
    "image-mae": "#56B4E9",
    "video-mae": "#E69F00",
    "mvd": "#009E73",
    "low-level": "#7F7F7F",
}
# For families that users name: what Okabe and Ito leave, then greys.
SPARE_COLOURS = ("#CC79A7", "#F0E442", "#4D4D4D", "#B0B0B0", "#000000")
SHARED_COLOUR = "#C9CDD2"
INK = "#1A1D21"
FAINT = "#8A9099"

LINE_STYLES: tuple[object, ...] = ("-", (0, (4, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.2, 1.2, 1.2)))
MARKERS = ("o", "s", "^", "D", "v", "P")


def order_families(families: Sequence[str]) -> tuple[str, ...]:
    """Return each family once: the known ones in their fixed order, then the others as they come."""
    found = list(dict.fromkeys(families))
    return tuple([f for f in FAMILY_COLOURS if f in found] + [f for f in found if f not in FAMILY_COLOURS])


def colour_families(families: Sequence[str]) -> dict[str, str]:
    """Return one colour per family; a known family has the same colour on every page."""
    others = [f for f in order_families(families) if f not in FAMILY_COLOURS]
    spare = {f: SPARE_COLOURS[i % len(SPARE_COLOURS)] for i, f in enumerate(others)}
    return {f: FAMILY_COLOURS.get(f) or spare[f] for f in order_families(families)}
