"""WARC, WET and EPUB: what is in them is read, and each way of being broken costs one record and says where."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest

from vernacular.corpus.configuration import CurateConfiguration, Source
from vernacular.corpus.curation import curate
from vernacular.corpus.readers.archives import read_warc
from vernacular.corpus.readers.books import read_epub
from vernacular.corpus.readers.record import Record

CRAWL = Path(__file__).parents[3] / "shared" / "data" / "text" / "commoncrawl_warc"
STORY = "Pada deszcz, a kot śpi na piecu i śni o wielkiej rzece, która płynie do morza przez całą noc."
PARAGRAPHS = "".join(f"<p>{STORY} Tak było {word} roku.</p>" for word in ("pierwszego", "drugiego", "trzeciego"))
NAVIGATION = "<nav><ul><li><a href='/'>Menu</a></li><li><a href='/k'>Kontakt</a></li></ul></nav>"
PAGE = f"<html><head><title>t</title></head><body>{NAVIGATION}<article>{PARAGRAPHS}</article></body></html>"


def record(content: bytes, kind: str = "conversion", type_: str = "text/plain", **headers: str) -> bytes:
    lines = [
        "WARC/1.0",
        f"WARC-Type: {kind}",
        "WARC-Record-ID: <urn:uuid:6a1f0f9e-0000-4000-8000-000000000001>",
        "WARC-Date: 2026-11-01T00:00:00Z",
        "WARC-Target-URI: https://example.org/a",
        f"Content-Type: {type_}",
        *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
        f"Content-Length: {headers.pop('length', len(content))}",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content + b"\r\n\r\n"


def response(page: bytes, *, type_: str = "text/html", status: str = "200 OK", encoding: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {type_}\r\n{encoding}\r\n".encode()
    return record(head + page, "response", "application/http; msgtype=response")


def read(raw: bytes, compression: str | None = None, **settings: Any) -> list[Record]:
    return list(read_warc(io.BytesIO(raw), compression, Source(name="s", path="unused", **settings)))


def members(*records: bytes) -> bytes:
    return b"".join(gzip.compress(each) for each in records)


NOTES = [record(f"{STORY} {word}".encode()) for word in ("raz", "dwa", "trzy", "cztery")]


@pytest.mark.parametrize("pack", [None, ".gz"])
def test_texts_of_a_wet_with_address_and_date(pack: str | None) -> None:
    info = record(b"software: x", "warcinfo", "application/warc-fields")
    raw = members(info, *NOTES) if pack else b"".join([info, *NOTES])
    found = read(raw, pack)
    assert [each.text for each in found] == [f"{STORY} {word}" for word in ("raz", "dwa", "trzy", "cztery")]
    assert [each.line for each in found] == [2, 3, 4, 5]
    assert found[0].name == "https://example.org/a 2026-11-01T00:00:00Z"


def test_a_header_states_the_language_where_the_source_says_so() -> None:
    raw = record(STORY.encode(), WARC_Identified_Content_Language="pol,eng")
    assert read(raw)[0].language is None
    assert read(raw, language_field="WARC-Identified-Content-Language")[0].language == "pol"


@pytest.mark.parametrize("extractor", ["resiliparse", "trafilatura"])
def test_pages_of_a_warc(extractor: str) -> None:
    if extractor == "trafilatura":
        pytest.importorskip("trafilatura")
    raw = [
        response(PAGE.encode()),
        response(PAGE.encode("iso-8859-2"), type_="text/html; charset=iso-8859-2"),
        response(PAGE.replace("<title>", '<meta charset="windows-1250"><title>').encode("cp1250")),
        response(gzip.compress(PAGE.encode()), encoding="Content-Encoding: gzip\r\n"),
        response(b"gone", status="404 Not Found"),
        response(b"\x89PNG", type_="image/png"),
    ]
    found = read(b"".join(raw), html={"extractor": extractor})
    assert len(found) == 4
    for each in found:
        assert each.text and each.text.count(STORY) == 3 and "Menu" not in each.text


def test_a_charset_that_is_none_and_one_that_lies() -> None:
    found = read(response(PAGE.encode(), type_="text/html; charset=klingon"))
    assert STORY in str(found[0].text)
    assert read(response(PAGE.encode(), type_="text/html; charset=us-ascii"))[0].text.count(STORY) == 3
    broken = read(response(b"<p>\xff\xfe\xfa\xc3\x28</p>", type_="text/html; charset=utf-8"))
    assert broken[0].problem is None or "not valid" in broken[0].problem
    (plain,) = read(record(b"z\xb3y wiersz"))
    assert plain.text is None and "not valid UTF-8" in str(plain.problem)


@pytest.mark.parametrize("pack", [None, ".gz"])
@pytest.mark.parametrize("length", [10, 10_000])
def test_a_wrong_length_costs_one_record(pack: str | None, length: int) -> None:
    wrong = NOTES[1].replace(
        f"Content-Length: {len(STORY.encode()) + 4}".encode(), f"Content-Length: {length}".encode()
    )
    assert wrong != NOTES[1]
    records = [NOTES[0], wrong, *NOTES[2:]]
    found = read(members(*records) if pack else b"".join(records), pack)
    assert [each.text is not None for each in found] == [True, False, True, True]
    assert f"Content-Length says {length:,} bytes" in str(found[1].problem)
    begins = len(members(NOTES[0]) if pack else NOTES[0])
    assert f"(record 2, byte {begins:,})" in str(found[1].problem)


def test_a_damaged_member_costs_itself() -> None:
    whole = [gzip.compress(each) for each in NOTES]
    middle = bytearray(whole[1])
    middle[len(middle) // 2] ^= 0xFF
    found = read(whole[0] + bytes(middle) + whole[2] + whole[3], ".gz")
    assert [each.text is not None for each in found] == [True, False, True, True]
    assert "gzip member is damaged" in str(found[1].problem) and f"byte {len(whole[0]):,}" in str(found[1].problem)


def test_rubbish_between_members_and_an_end_cut_off() -> None:
    whole = [gzip.compress(each) for each in NOTES[:2]]
    found = read(whole[0] + b"rubbish" + whole[1][:-12], ".gz")
    assert found[0].text is not None
    assert ["no gzip" in str(found[1].problem), "cut short" in str(found[2].problem)] == [True, True]


@pytest.mark.parametrize("cut", [3, 40, 200, 300])
def test_a_plain_archive_cut_off(cut: int) -> None:
    raw = b"".join(NOTES[:2])
    found = read(raw[: len(NOTES[0]) + cut])
    assert found[0].text is not None and len(found) == 2 and found[1].text is None


def test_headers_without_length_or_end() -> None:
    nameless = NOTES[1].replace(b"Content-Length", b"Content-Width")
    found = read(NOTES[0] + nameless + b"WARC/1.0\r\n" + b"x" * 70_000 + b"\r\n\r\n" + NOTES[2])
    assert [each.text is not None for each in found] == [True, False, False, True]
    assert "no valid Content-Length" in str(found[1].problem) and "header has no end" in str(found[2].problem)


def test_a_response_that_does_not_decode() -> None:
    found = read(response(b"no gzip at all", encoding="Content-Encoding: gzip\r\n") + NOTES[0])
    assert "cannot be decoded" in str(found[0].problem) and found[1].text is not None
    (without,) = read(record(b"no header", "response", "application/http"))
    assert "no valid HTTP header" in str(without.problem)


@pytest.mark.skipif(not CRAWL.exists(), reason="needs ../shared/data/text/commoncrawl_warc")
def test_a_real_crawl() -> None:
    (page,) = read((CRAWL / "whirlwind.warc.gz").read_bytes(), ".gz")
    (text,) = read((CRAWL / "whirlwind.warc.wet.gz").read_bytes(), ".gz")
    assert page.name == text.name == "https://an.wikipedia.org/wiki/Escopete 2024-05-18T01:58:10Z"
    assert page.text and text.text and "Escopete" in page.text and len(page.text) < len(text.text)


def test_a_crawl_is_curated_and_what_is_broken_is_set_aside(tmp_path: Path) -> None:
    wrong = NOTES[1].replace(b"Content-Length: ", b"Content-Length: 9")
    path = tmp_path / "crawl.warc.gz"
    path.write_bytes(members(NOTES[0], wrong, NOTES[2]))
    settings = {"sources": [{"name": "crawl", "path": str(path)}], "near_duplicates": {"enabled": False}}
    summary = curate(CurateConfiguration(**settings), tmp_path / "out")
    assert summary["documents"] == 2 and summary["quarantined"] == 1
    assert '"line": 2' in (tmp_path / "out" / "logs" / "quarantine.jsonl").read_text(encoding="utf-8")


# ---------------------------------------------------------------------------------------------------------- books

PACKAGE = """<?xml version="1.0"?>
<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/">
<metadata><dc:title>Kot na piecu</dc:title><dc:language>pl</dc:language></metadata>
<manifest><item id="b" href="two.xhtml" media-type="application/xhtml+xml"/>
<item id="a" href="text/one%20a.xhtml" media-type="application/xhtml+xml"/>
<item id="c" href="cover.png" media-type="image/png"/>{items}</manifest>
<spine><itemref idref="c"/><itemref idref="a"/><itemref idref="b"/>{spine}</spine></package>"""


def book(items: str = "", spine: str = "", package: str = PACKAGE, **extra: bytes) -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/epub+zip")
        archive.writestr(
            "META-INF/container.xml",
            '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
            '<rootfile full-path="OEBPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>',
        )
        archive.writestr("OEBPS/book.opf", package.replace("{items}", items).replace("{spine}", spine))
        archive.writestr("OEBPS/text/one a.xhtml", f"<html><body><h1>Jeden</h1><p>{STORY}</p></body></html>")
        archive.writestr("OEBPS/two.xhtml", "<html><body><h1>Dwa</h1><p>एक दिन वर्षा हुई।</p></body></html>")
        for name, content in extra.items():
            archive.writestr(name.replace("__", "/"), content)
    file.seek(0)
    return file


def test_a_book_in_the_order_of_its_spine() -> None:
    (whole,) = read_epub(book(), "document")
    assert whole.text and whole.text.index(STORY) < whole.text.index("एक दिन वर्षा हुई।")
    assert (whole.name, whole.language, whole.line) == ("Kot na piecu", "pl", None)
    chapters = list(read_epub(book(), "chapter"))
    assert [chapter.line for chapter in chapters] == [2, 3]
    assert chapters[0].name == "Kot na piecu / text/one%20a.xhtml"


@pytest.mark.parametrize(
    ("href", "problem"),
    [
        ("../../../etc/passwd", "leads out of the archive"),
        ("/etc/passwd", "leads out of the archive"),
        ("missing.xhtml", "no entry 'OEBPS/missing.xhtml'"),
    ],
)
def test_a_chapter_that_is_elsewhere_costs_itself(href: str, problem: str) -> None:
    item = f'<item id="x" href="{href}" media-type="application/xhtml+xml"/>'
    broken, whole = read_epub(book(item, '<itemref idref="x"/><itemref idref="a"/>'), "document")
    assert problem in str(broken.problem) and whole.text and STORY in whole.text


def test_a_chapter_that_grows_without_bound() -> None:
    item = '<item id="x" href="bomb.xhtml" media-type="application/xhtml+xml"/>'
    file = book(item, '<itemref idref="x"/>', **{"OEBPS__bomb.xhtml": b" " * (40 << 20)})
    broken, whole = read_epub(file, "document")
    assert "larger than a book may be" in str(broken.problem) and whole.text


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        (io.BytesIO(b"no zip"), "not a zip file"),
        (book(package="<package"), "unclosed token"),
        (book(package='<!DOCTYPE p [<!ENTITY a "b">]><package/>'), "declares XML entities"),
        (
            book(
                **{
                    "META-INF__encryption.xml": b'<encryption xmlns:e="http://www.w3.org/2001/04/xmlenc#">'
                    b'<e:EncryptionMethod Algorithm="http://www.w3.org/2001/04/xmlenc#aes256-cbc"/></encryption>'
                }
            ),
            "encrypted",
        ),
    ],
)
def test_a_book_that_cannot_be_read(file: io.BytesIO, problem: str) -> None:
    (broken,) = read_epub(file, "document")
    assert broken.text is None and problem in str(broken.problem)
