"""HTML pages: their main text, without menus, headers and footers, by the extractor that the source names."""

from __future__ import annotations

from typing import IO

from vernacular.corpus.configuration import Html
from vernacular.corpus.readers.record import Record, broken, of_text
from vernacular.corpus.readers.stream import content
from vernacular.foundation.errors import missing_extra

PAGES = ("text/html", "application/xhtml+xml")


def read_html(file: IO[bytes], compression: str | None, settings: Html) -> Record:
    """An HTML file: its main text."""
    return text_of_page(content(file, compression), None, settings)


def text_of_page(raw: bytes, line: int | None, settings: Html, *, charset: str | None = None) -> Record:
    """The main text of a page.

    Args:
        raw: the page's bytes.
        line: its place in its file.
        settings: which extractor.
        charset: what the server said the page is written in; it is believed if the bytes are valid in it.
    """
    page = _decoded(raw, charset)
    if page is None:
        named = charset or _detected(raw)
        return broken(f"the page is not valid {named}", line, len(raw))
    text = _by_trafilatura(page) if settings.extractor == "trafilatura" else _by_resiliparse(page, settings)
    return of_text(text, line, size=len(raw))


def _decoded(raw: bytes, charset: str | None) -> str | None:
    from resiliparse.parse.encoding import bytes_to_str

    for encoding in filter(None, (charset, _detected(raw))):
        try:
            return bytes_to_str(raw, encoding, "strict", fallback_encodings=())
        except (UnicodeDecodeError, LookupError):
            continue
    return None


def _detected(raw: bytes) -> str:
    from resiliparse.parse.encoding import detect_encoding

    return detect_encoding(raw, html5_compatible=True, from_html_meta=True) or "utf-8"


def _by_resiliparse(page: str, settings: Html) -> str:
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.html import HTMLTree

    tree = HTMLTree.parse(page)
    return extract_plain_text(tree, main_content=settings.main_content, alt_texts=False, preserve_formatting=True)


def _by_trafilatura(page: str) -> str:
    try:
        from trafilatura import extract
    except ImportError as error:
        raise missing_extra("trafilatura", "html", "the extractor trafilatura") from error
    return extract(page, include_comments=False, include_tables=True, deduplicate=False) or ""
