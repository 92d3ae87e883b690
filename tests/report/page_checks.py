"""What every page must be: figures with title, unit, n and numbers; nothing from the network; links that lead "
"somewhere."""

from __future__ import annotations

import html
import re
import urllib.parse
from collections.abc import Iterable
from pathlib import Path

from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from brainsim.report.figures.canvas import Drawing, drawing_style

UNITS = re.compile(r"no unit|R²|\(%\)|\(mm\)|\(share\)", re.IGNORECASE)


def check_page(folder: Path) -> int:
    """Check the page of a folder and return how many figures it has."""
    text = (folder / "index.html").read_text()
    figures = re.findall(r'<figure id="([^"]+)">(.*?)</figure>', text, re.DOTALL)
    numbers = []
    for key, body in figures:
        title = re.search(r'class="figure-title"><span class="figure-number">Figure (\d+)</span> (\S.{3,})</p>', body)
        assert title, f"{key} has no title"
        numbers.append(int(title.group(1)))
        caption = body[body.index("<figcaption>") :]
        shown = body[: body.index("<figcaption>")]
        assert re.search(r'<svg role="img" aria-label="[^"]{20,}"', shown), f"{key} has no text for the blind"
        assert re.search(r"\bn\s=\s\d", caption), f"{key} does not say n"
        assert UNITS.search(re.sub(r"\s+", " ", caption + shown)), f"{key} has no unit"
        link = re.search(rf'download="{key}\.tsv" href="([^"]+)"', caption)
        assert link, f"{key} has no numbers"
        rows = numbers_behind(folder, html.unescape(link.group(1))).rstrip("\n").split("\n")
        assert len(rows) > 1, f"{key} has an empty table"
        assert {row.count("\t") for row in rows} == {rows[0].count("\t")}
        assert (folder / "figures" / f"{key}.svg").is_file()
        assert numbers_behind(folder, html.unescape(link.group(1))) == (folder / "tables" / f"{key}.tsv").read_text()
    assert numbers == list(range(1, len(figures) + 1))
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    for address in re.findall(r'\b(?:href|src)="([^"]+)"', text):
        if address.startswith("#"):
            assert address[1:] in ids, address
        else:
            # Addresses of papers are links for a reader; nothing is loaded from them.
            assert address.startswith(("data:", "https://")) or (folder / address).is_file(), address
    assert "<script" not in text
    assert not re.search(r'(?:src|srcset|xlink:href)="https?:', text)
    return len(figures)


def numbers_behind(folder: Path, address: str) -> str:
    """Return the table that a link saves: it stands in the address, or in a file beside the page."""
    if address.startswith("data:"):
        return urllib.parse.unquote(address.split(",", 1)[1])
    return (folder / address).read_text()


def texts_outside(drawing: Drawing) -> list[str]:
    """Return every text of a figure that is not whole inside it: a journal would print it cut."""
    figure = drawing.figure
    with drawing_style():
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        renderer = canvas.get_renderer()
        hidden = {id(text) for axis in figure.findobj(Axis) for text in _beyond_the_ends(axis)}
        found = []
        for text in figure.findobj(Text):
            if id(text) in hidden or not text.get_visible() or not text.get_text().strip():
                continue
            box = text.get_window_extent(renderer)
            inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= figure.bbox.width + 1
            if not (inside and box.y1 <= figure.bbox.height + 1):
                found.append(text.get_text())
    return found


def _beyond_the_ends(axis: Axis) -> Iterable[Text]:
    """Return labels of ticks that lie beyond an axis' ends, which are never drawn."""
    low, high = sorted(axis.get_view_interval())
    slack = 1e-9 * (high - low)
    for tick in axis.get_major_ticks():
        if not low - slack <= tick.get_loc() <= high + slack:
            yield from (tick.label1, tick.label2)
