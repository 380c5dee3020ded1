"""EPUB books: a ZIP archive with XHTML chapters, read in the order of the book's spine.

Nothing is unpacked to disk. What an archive claims is not believed: sizes are bounded while reading, and a chapter is
only what the archive itself holds under the name that the book gives.
"""

from __future__ import annotations

import posixpath
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any
from urllib.parse import unquote
from xml.etree import ElementTree

from vernacular.corpus.configuration import Html
from vernacular.corpus.readers.pages import PAGES, text_of_page
from vernacular.corpus.readers.record import Record, broken, of_text

_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
_MOST_BYTES = 256 << 20
_MOST_ENTRY_BYTES = 32 << 20
_MOST_ENTRIES = 10_000
# Fonts may be obfuscated by these and the text is still readable.
_FONT_SCRAMBLING = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")


class _BadBook(Exception):
    """What is wrong with a book."""


@dataclass(frozen=True)
class _Chapter:
    number: int
    name: str
    record: Record


def read_epub(file: IO[bytes], split: str) -> Iterator[Record]:
    """A book: one record, or with `split` "chapter" one for each entry of the spine (its line is the entry's number).

    The book's stated language goes with each record, its title is the record's name. A broken chapter is a broken
    record; the rest of the book is read.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            book = _Book(archive)
            chapters = list(book.chapters())
    except (_BadBook, zipfile.BadZipFile, ElementTree.ParseError, NotImplementedError, UnicodeDecodeError) as error:
        yield broken(f"not a readable EPUB book: {error}", None, 0)
        return
    for chapter in chapters:
        if split == "chapter" or chapter.record.problem is not None:
            yield _named(chapter.record, book, chapter.name)
    if split != "chapter":
        whole = [chapter.record for chapter in chapters if chapter.record.text]
        text = "\n\n".join(record.text for record in whole if record.text)
        if whole:
            yield _named(of_text(text, None, size=sum(record.size for record in whole)), book, None)


def _named(record: Record, book: _Book, chapter: str | None) -> Record:
    record.name = " / ".join(part for part in (book.title, chapter) if part) or None
    if record.problem is None:
        record.language = book.language
    return record


class _Book:
    """An opened archive, its package read.

    Raises:
        _BadBook: it is none, is encrypted, or asks for more than a book may.
    """

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._read = 0
        if len(archive.infolist()) > _MOST_ENTRIES:
            raise _BadBook(f"it has {len(archive.infolist()):,} entries, more than {_MOST_ENTRIES:,}")
        self._refuse_encryption()
        root = self._xml(_CONTAINER).find(".//{*}rootfile")
        path = root.get("full-path") if root is not None else None
        if not path:
            raise _BadBook(f"{_CONTAINER} names no package")
        self._folder = posixpath.dirname(path)
        self._package = self._xml(path)
        self.title = self._stated("title")
        self.language = self._stated("language")

    def chapters(self) -> Iterator[_Chapter]:
        """The spine's entries that are pages."""
        items = {item.get("id"): item for item in self._package.findall(".//{*}manifest/{*}item")}
        for number, reference in enumerate(self._package.findall(".//{*}spine/{*}itemref"), start=1):
            item = items.get(reference.get("idref"))
            if item is None:
                problem = f"the spine names '{reference.get('idref')}', which the manifest lacks"
                yield _Chapter(number, "", broken(problem, number, 0))
            elif item.get("media-type") in PAGES:
                yield self._chapter(number, item.get("href") or "")

    def _chapter(self, number: int, href: str) -> _Chapter:
        try:
            raw = self._bytes(self._inside(href))
        except (_BadBook, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            return _Chapter(number, href, broken(f"{error} (chapter {number}, {href})", number, 0))
        # A chapter is all content: no menu to leave out.
        return _Chapter(number, href, text_of_page(raw, number, Html(main_content=False)))

    def _inside(self, href: str) -> str:
        """The entry's name in the archive; a path that leaves it is refused."""
        path = posixpath.normpath(posixpath.join(self._folder, unquote(href.split("#")[0])))
        if path.startswith(("/", "..")) or "\\" in path:
            raise _BadBook("the path leads out of the archive")
        return path

    def _bytes(self, name: str) -> bytes:
        try:
            with self._archive.open(name) as entry:
                content = entry.read(_MOST_ENTRY_BYTES + 1)
        except KeyError:
            raise _BadBook(f"the archive has no entry '{name}'") from None
        self._read += len(content)
        if len(content) > _MOST_ENTRY_BYTES or self._read > _MOST_BYTES:
            raise _BadBook(f"unpacked it is larger than a book may be ({_MOST_BYTES >> 20} MiB)")
        return content

    def _xml(self, name: str) -> Any:
        content = self._bytes(name)
        # Entities can grow without bound, and neither file has a use for them.
        if b"<!ENTITY" in content:
            raise _BadBook(f"{name} declares XML entities")
        return ElementTree.fromstring(content)

    def _stated(self, name: str) -> str | None:
        found = self._package.find(f".//{{http://purl.org/dc/elements/1.1/}}{name}")
        return (found.text or "").strip() or None if found is not None else None

    def _refuse_encryption(self) -> None:
        if _ENCRYPTION not in self._archive.namelist():
            return
        for method in self._xml(_ENCRYPTION).iter("{http://www.w3.org/2001/04/xmlenc#}EncryptionMethod"):
            if method.get("Algorithm") not in _FONT_SCRAMBLING:
                raise _BadBook("it is encrypted")
