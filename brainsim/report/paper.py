"""Turn a page into a PDF, as it is made for paper."""

from __future__ import annotations

import io
import warnings
from typing import Any

from brainsim.core.errors import MissingDependencyError


def write_pdf(page: str) -> bytes:
    """Return the PDF of a page; whatever the page asks of the network or of other files is refused.

    Raises
    ------
    MissingDependencyError
        Without WeasyPrint, or without Pango, which it sets type with.
    """
    check_pdf()
    from weasyprint import HTML

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the typesetter about itself
        HTML(string=page, url_fetcher=_refuse).write_pdf(buffer)
    return buffer.getvalue()


def check_pdf() -> None:
    """Raise where there is nothing to make a PDF with."""
    try:
        import weasyprint  # noqa: F401
    except (ImportError, OSError) as error:
        raise MissingDependencyError(
            f"--format pdf needs WeasyPrint and Pango, and they do not load ({str(error).splitlines()[0]}).",
            hint="pip install 'brainsim-toolkit[pdf]'; or open index.html and print it: it is made for paper",
        ) from error


def _refuse(url: str, *_: Any, **__: Any) -> dict[str, Any]:
    if url.startswith("data:"):
        from weasyprint import default_url_fetcher

        found: dict[str, Any] = default_url_fetcher(url)
        return found
    raise ValueError(f"{url} is not fetched")
