"""Turn names into the order that rows and runs have."""

from __future__ import annotations

import re


def natural_order(name: str) -> tuple[tuple[int, int, str], ...]:
    """Return a key that sorts names by their numbers and, where those are written alike, by their letters."""
    parts = re.findall(r"\d+|\D+", name)
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts)


def stimulus_order(name: str) -> str:
    """Return a key that sorts stimuli as files of them: plainly, img10 before img2.

    A folder of images, the rows of betas and features made elsewhere have this order in common; what has another is
    another row.

    Parameters
    ----------
    name : str
        File name without its suffix.
    """
    return f"{name}."
