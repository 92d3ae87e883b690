"""Turn a page's content into files: one self-contained HTML page or PDF, tables as TSV, figures as SVG or PNG."""

from __future__ import annotations

import json
import math
import re
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from brainsim.core.errors import InvalidValueError
from brainsim.core.resources import format_bytes
from brainsim.report.content import Content
from brainsim.report.figures.canvas import Drawing
from brainsim.report.headline import write_summary, write_title
from brainsim.report.methods import flatten_options, write_methods
from brainsim.report.paper import check_pdf, write_pdf
from brainsim.report.references import find_link, to_bibtex
from brainsim.report.section import Section
from brainsim.report.sections import build_sections
from brainsim.report.tables import Table

FORMATS = ("html", "pdf", "tsv", "png")
MANIFEST = "files.json"  # what an earlier report wrote here, so that its tables do not stay beside new ones

# Longer tables stay files beside the page: inside it, it would take seconds to open.
MAX_INLINE = 400_000


@dataclass(frozen=True)
class WrittenPage:
    """Where a page lies and what it holds.

    Parameters
    ----------
    page : Path
        The page; the PDF, or the folder, where no page was asked for.
    tables, figures : tuple of Path
    sections : tuple of str
        Titles.
    """

    page: Path
    tables: tuple[Path, ...]
    figures: tuple[Path, ...]
    sections: tuple[str, ...]


def write_page(content: Content, out: Path, *, formats: Sequence[str] = ("html",)) -> WrittenPage:
    """Write what was asked for: a page, a PDF, tables, pictures.

    Parameters
    ----------
    content : Content
    out : Path
        Folder; made if it is not there. Files of an earlier page in it are replaced or removed; others are left alone.
    formats : sequence of str
        Of `FORMATS`: html (`index.html`, `tables/*.tsv`, `figures/*.svg`), pdf (`report.pdf` and the tables), tsv
        (`tables/*.tsv`), png (`figures/*.png` and the tables).

    Raises
    ------
    InvalidValueError
        Where there is nothing to tell, or `out` is a file.
    MissingDependencyError
        Where there is nothing to make a PDF with.
    """
    if not (content.fits or content.partitions or content.rsas):
        raise InvalidValueError(
            "a page needs at least one fit, partition or rsa result; there is none.",
            hint="brainsim fit NAME --dataset DATASET",
        )
    if out.exists() and not out.is_dir():
        raise InvalidValueError(
            f"--out is {out}, which is a file; a folder is wanted.", hint="brainsim report --out FOLDER"
        )
    if "pdf" in formats:
        check_pdf()
    sections = build_sections(content)
    drawings = [block for section in sections for block in section.blocks if isinstance(block, Drawing)]
    blocks = [block for section in sections for block in section.blocks]
    page = render_page(content, sections) if {"html", "pdf"} & set(formats) else ""
    files: dict[str, str | bytes] = {}
    if "html" in formats:
        files["index.html"] = page
        files |= {f"figures/{d.key}.svg": d.svg for d in drawings}
    if "pdf" in formats:
        files["report.pdf"] = write_pdf(page)
    if "png" in formats:
        files |= {f"figures/{d.key}.png": d.to_png() for d in drawings}
    files |= {f"tables/{b.key}.tsv": (b.table if isinstance(b, Drawing) else b).to_tsv() for b in blocks}
    _write_files(out, files)
    paths = [out / name for name in files]
    first = next((out / name for name in ("index.html", "report.pdf") if name in files), out)
    return WrittenPage(
        page=first,
        tables=tuple(p for p in paths if p.suffix == ".tsv"),
        figures=tuple(p for p in paths if p.suffix in (".svg", ".png")),
        sections=tuple(s.title for s in sections),
    )


def render_page(content: Content, sections: tuple[Section, ...]) -> str:
    """Return the page as HTML text."""
    environment = Environment(
        loader=PackageLoader("brainsim.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_link"] = data_link
    environment.filters["table_link"] = link_table
    environment.filters["inline_svg"] = lambda svg: Markup(svg)  # our own renderer's; it escapes every text it draws
    environment.filters["keep"] = keep_together
    environment.filters["bytes"] = format_bytes
    environment.filters["link"] = find_link
    environment.tests["drawing"] = lambda block: isinstance(block, Drawing)
    methods = write_methods(content)
    citations = tuple(dict.fromkeys(s.citation for s in content.systems if s.citation))
    results = (
        *((f"partition {p.name} ({p.dataset})", p.options) for p in content.partitions),
        *((f"fit {f.name} ({f.dataset})", f.options) for f in content.fits),
        *((f"rsa {r.name} ({r.dataset})", r.options) for r in content.rsas),
    )
    return environment.get_template("page.html.j2").render(
        content=content,
        title=write_title(content),
        summary=write_summary(content),
        methods=methods,
        citations=citations,
        bibtex=to_bibtex(methods.references, citations),
        sections=sections,
        numbers=_number_blocks(sections),
        results=[(name, flatten_options(options), _as_json(options)) for name, options in results if options],
        style=Markup(environment.get_template("style.css").render()),
    )


def keep_together(text: str) -> str:
    """Return text in which "n = 4", "5 %" and "2 s" do not break over lines."""
    return re.sub(r"(?<=\bn) = (?=\d)", "\u00a0=\u00a0", re.sub(r"(?<=\d) (?=(?:%|s|TRs?|mm)\b|%)", "\u00a0", text))


def data_link(text: str, mime: str) -> str:
    """Return text as a data: address, so that it can be saved from the page without a server."""
    return f"data:{mime};charset=utf-8,{urllib.parse.quote(text, safe='')}"


def link_table(block: Drawing | Table) -> str:
    """Return where a block's numbers are saved from: the page itself, or the file beside it where they are many."""
    table = block.table if isinstance(block, Drawing) else block
    text = table.to_tsv()
    if len(text) > MAX_INLINE:
        return f"tables/{block.key}.tsv"
    return data_link(text, "text/tab-separated-values")


def _number_blocks(sections: tuple[Section, ...]) -> dict[str, str]:
    """Return "Figure 1", "Table 1", … by key."""
    numbers: dict[str, str] = {}
    n = {"Figure": 0, "Table": 0}
    for section in sections:
        for block in section.blocks:
            what = "Table" if isinstance(block, Table) else "Figure"
            n[what] += 1
            numbers[block.key] = f"{what} {n[what]}"
    return numbers


def _as_json(options: Mapping[str, Any]) -> str:
    return json.dumps(_finite(options), indent=1, ensure_ascii=False, sort_keys=True, default=str)


def _finite(value: Any) -> Any:
    """Return a value with NaN and infinities as null: JSON has no word for them."""
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write_files(out: Path, files: Mapping[str, str | bytes]) -> None:
    manifest = out / MANIFEST
    earlier = json.loads(manifest.read_text()) if manifest.is_file() else []
    for name in earlier:
        ours = name in ("index.html", "report.pdf") or name.startswith(("tables/", "figures/"))
        if name not in files and ours and ".." not in name:
            (out / name).unlink(missing_ok=True)
    for folder in {name.rpartition("/")[0] for name in files}:
        (out / folder).mkdir(parents=True, exist_ok=True)
    for name, text in {**files, MANIFEST: json.dumps(sorted(files), indent=0)}.items():
        part = out / f"{name}.part"
        part.write_bytes(text.encode() if isinstance(text, str) else text)
        part.replace(out / name)
