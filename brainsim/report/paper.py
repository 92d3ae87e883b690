"""Turn a page into a PDF, as it is made for paper."""

from __future__ import annotations

import io
import logging

from brainsim.core.errors import MissingDependencyError

HINT = "pip install 'brainsim-toolkit[pdf]'; or open index.html and print it: it is made for paper"


def write_pdf(page: str) -> bytes:
    """Return the PDF of a page; whatever the page asks of the network or of other files is refused.

    Raises
    ------
    MissingDependencyError
        Without WeasyPrint, or without Pango, which it sets type with; or where it cannot draw a figure.
    """
    check_pdf()
    from weasyprint import HTML
    from weasyprint.urls import URLFetcher

    buffer = io.BytesIO()
    failures = _Failures()
    logger = logging.getLogger("weasyprint")
    logger.addHandler(failures)
    try:
        HTML(string=page, url_fetcher=URLFetcher(allowed_protocols=("data",))).write_pdf(buffer)
    finally:
        logger.removeHandler(failures)
    if failures.told:
        raise MissingDependencyError(
            f"WeasyPrint left {len(failures.told)} figure(s) of the PDF empty ({failures.told[0]}).", hint=HINT
        )
    return buffer.getvalue()


def check_pdf() -> None:
    """Raise where there is nothing to make a PDF with."""
    try:
        from weasyprint.urls import URLFetcher  # noqa: F401  # with it came version 68
    except (ImportError, OSError) as error:
        raise MissingDependencyError(
            f"--format pdf needs WeasyPrint (68 or later) and Pango, which do not load ({str(error).splitlines()[0]}).",
            hint=HINT,
        ) from error


class _Failures(logging.Handler):
    """Collects what WeasyPrint could not draw: it says so in its log, and leaves the place empty."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "SVG" in record.getMessage():
            self.told.append(record.getMessage())
