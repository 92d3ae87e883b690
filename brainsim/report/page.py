"""Turn a page's content into files: one self-contained HTML page, its tables as TSV and its figures as SVG."""

from __future__ import annotations

import json
import math
import re
import urllib.parse
from collections.abc import Mapping
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
from brainsim.report.references import find_link, to_bibtex
from brainsim.report.sections import Section, build_sections
from brainsim.report.tables import Table

MANIFEST = "files.json"  # what an earlier report wrote here, so that its tables do not stay beside new ones


@dataclass(frozen=True)
class WrittenPage:
    """Where a page lies and what it holds."""

    page: Path
    tables: tuple[Path, ...]
    figures: tuple[Path, ...]
    sections: tuple[str, ...]


def write_page(content: Content, out: Path) -> WrittenPage:
    """Write `out/index.html`, `out/tables/*.tsv` and `out/figures/*.svg`.

    Parameters
    ----------
    content : Content
    out : Path
        Folder; made if it is not there. Files of an earlier page in it are replaced or removed; others are left alone.

    Raises
    ------
    InvalidValueError
        Where there is nothing to tell, or `out` is a file.
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
    sections = build_sections(content)
    files = {"index.html": render_page(content, sections)}
    for section in sections:
        for block in section.blocks:
            table = block.table if isinstance(block, Drawing) else block
            files[f"tables/{block.key}.tsv"] = table.to_tsv()
            if isinstance(block, Drawing):
                files[f"figures/{block.key}.svg"] = block.svg
    _write_files(out, files)
    paths = [out / name for name in files]
    return WrittenPage(
        page=out / "index.html",
        tables=tuple(p for p in paths if p.suffix == ".tsv"),
        figures=tuple(p for p in paths if p.suffix == ".svg"),
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


def _write_files(out: Path, files: Mapping[str, str]) -> None:
    manifest = out / MANIFEST
    earlier = json.loads(manifest.read_text()) if manifest.is_file() else []
    for name in earlier:
        if name not in files and name.startswith(("tables/", "figures/")) and ".." not in name:
            (out / name).unlink(missing_ok=True)
    for folder in ("tables", "figures"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    for name, text in {**files, MANIFEST: json.dumps(sorted(files), indent=0)}.items():
        part = out / f"{name}.part"
        part.write_text(text, encoding="utf-8")
        part.replace(out / name)
