"""What --format writes: a page, a PDF, tables, pictures; and what it says where it cannot."""

from __future__ import annotations

import builtins
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from report_fakes import fake_rsa, fake_table_study
from rsa_fakes import fake_geometry, fake_whole_rsa

from brainsim.commands.report import report
from brainsim.core.errors import InvalidValueError, MissingDependencyError
from brainsim.report.content import Content
from brainsim.report.figures.canvas import drawing_style
from brainsim.report.figures.rdms import draw_rdms
from brainsim.report.page import write_page
from brainsim.report.paper import write_pdf


def names_of(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def test_tables_alone_are_tables_alone(tmp_path: Path) -> None:
    written = write_page(fake_table_study(), tmp_path, formats=("tsv",))
    tables = ("pixels-scores", "pixels-scores-table", "runs", "systems")
    assert names_of(tmp_path) == {"files.json", *(f"tables/{name}.tsv" for name in tables)}
    assert (written.page, written.figures) == (tmp_path, ())


def test_pictures_are_png_of_300_dots_per_inch(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    written = write_page(fake_table_study(), tmp_path, formats=("png",))
    assert [p.name for p in written.figures] == ["pixels-scores.png"]
    with image.open(written.figures[0]) as picture:
        assert picture.size[0] == pytest.approx(5.0 * 300, abs=1)
    again = write_page(fake_table_study(), tmp_path / "again", formats=("png",))
    assert again.figures[0].read_bytes() == written.figures[0].read_bytes()


def test_another_format_into_the_same_folder_takes_the_earlier_ones_away(tmp_path: Path) -> None:
    write_page(fake_table_study(), tmp_path)
    (tmp_path / "mine.txt").write_text("")
    write_page(fake_table_study(), tmp_path, formats=("png",))
    names = names_of(tmp_path)
    assert "figures/pixels-scores.png" in names
    assert "mine.txt" in names
    assert not {"index.html", "figures/pixels-scores.svg"} & names


def test_a_pdf_holds_the_page(tmp_path: Path) -> None:
    pytest.importorskip("weasyprint", exc_type=(ImportError, OSError))
    content = replace(fake_table_study(), title="On paper")
    written = write_page(content, tmp_path, formats=("pdf",))
    assert written.page == tmp_path / "report.pdf"
    data = written.page.read_bytes()
    assert data.startswith(b"%PDF-")
    assert len(data) > 20_000


def test_a_pdf_asks_nothing_of_the_network_or_the_disk(tmp_path: Path) -> None:
    pytest.importorskip("weasyprint", exc_type=(ImportError, OSError))
    secret = tmp_path / "secret.svg"
    secret.write_text('<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>')
    plain = len(write_pdf("<p>x</p>"))
    for address in ("https://example.org/a.png", secret.as_uri()):
        assert len(write_pdf(f'<p>x</p><img src="{address}">')) < plain + 200


def test_pixels_inside_a_figure_reach_the_pdf() -> None:
    pytest.importorskip("weasyprint", exc_type=(ImportError, OSError))
    with drawing_style():
        drawing = draw_rdms(fake_whole_rsa(), fake_geometry(n_pixels=12), key="r")
    assert drawing.svg.count("<image") == 14  # 13 RDMs and their scale
    data = write_pdf(f"<p>x</p>{drawing.svg}")
    assert data.count(b"/Subtype /Image") + data.count(b"/Subtype/Image") >= 14


def test_a_figure_that_the_typesetter_cannot_draw_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    svg = pytest.importorskip("weasyprint.svg", exc_type=(ImportError, OSError))

    def fail(*_: Any, **__: Any) -> None:
        raise ValueError("no such thing")

    monkeypatch.setattr(svg.SVG, "draw", fail)
    with pytest.raises(MissingDependencyError, match="left 1 figure"):
        write_pdf('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><path d="M 0 0 L x y z"/></svg>')


def test_without_a_typesetter_a_pdf_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("weasyprint"):
            raise OSError("cannot load library 'libpango-1.0-0'")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependencyError, match="needs WeasyPrint") as caught:
        write_page(Content(rsas=(fake_rsa(),)), tmp_path / "out", formats=("html", "pdf"))
    assert "print it" in str(caught.value.hint)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("formats", "words"), [(("docx",), "allowed: html, pdf, tsv, png"), ((), "--format is empty")])
def test_an_unknown_format_is_refused(tmp_path: Path, formats: tuple[str, ...], words: str) -> None:
    with pytest.raises(InvalidValueError, match=words):
        report(store=tmp_path / "s.zarr", out=tmp_path / "out", format=formats)
    assert list(tmp_path.iterdir()) == []
