"""The report page of a curated corpus in a real browser: its figures, plots and documents, and what it never shows."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from small_corpora import configuration, hindi, polish, write_lines
from vernacular.corpus.curation import curate
from vernacular.corpus.decontamination.benchmark import Benchmark, Item
from vernacular.corpus.page.report_page import write_report_page
from vernacular.corpus.page.sheet import percent, sheet, table
from vernacular.foundation.errors import UserError
from vernacular.foundation.files import write_json

HOSTILE = "<img src=x onerror=\"document.title='taken'\"></div><script>document.title='taken'</script> & </style>"
ARABIC = "ذهبت الجدة إلى السوق صباح السبت واشترت التفاح والكمثرى، ثم عادت إلى البيت. كان الجو جميلا والأطفال سعداء."
TAMIL = "பாட்டி சனிக்கிழமை காலை சந்தைக்குச் சென்று ஆப்பிள்களையும் பேரிக்காய்களையும் வாங்கினாள்."
ADDRESS = "zofia.kowalska@example.org"


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus with hostile text everywhere text can come from."""
    folder = tmp_path_factory.mktemp("report")
    good = [{"text": polish(number), "id": f"pl-{number}"} for number in range(40)]
    good += [{"text": hindi(number), "id": f"hi-{number}"} for number in range(40)]
    good += [{"text": f"{TAMIL} {HOSTILE} {TAMIL}", "id": "ta"}, {"text": ARABIC, "id": HOSTILE}]
    good += [{"text": f"{polish(51)} Proszę pisać: {ADDRESS}", "id": ADDRESS}]
    bad: list[Any] = [{"text": polish(3)}, {"text": hindi(4) + " " + hindi(6) + " " + polish(7)}]
    long = " ".join(polish(number) for number in range(0, 40, 4))
    bad += [
        {"text": long},
        {"text": long.replace("numer 36", "trzydziesty szósty")},
        {"text": f"{HOSTILE} 12345 67 {'9' * 600}"},
    ]
    bad += [{"text": "Tak."}, "{broken <script>document.title='taken'</script>", {"tekst": "nie to pole"}]
    (folder / "in").mkdir()
    write_lines(folder / "in" / "good.jsonl", good)
    write_lines(folder / "in" / "bad.jsonl", bad)
    (folder / "in" / "README").write_text("not read")
    source = {"name": f"mix {HOSTILE[:20]}", "path": str(folder / "in"), "id_field": "id"}
    settings = {"languages": ["pl", "hi", "ar", "ta"], "personal_data": {"mask": ["phone"]}}
    curate(configuration(source, **settings), folder / "out")
    return folder / "out"


def figures_of(page: Any, name: str) -> dict[str, list[str]]:
    """The cells of each row of a table, by what its first column shows; figures without separators."""
    rows = page.eval_on_selector_all(
        f"#{name} tbody tr", "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
    )
    return {first: [cell.replace(",", "") for cell in rest] for first, *rest in rows}


def named(rows: dict[str, list[str]], code: str) -> list[str]:
    (found,) = [cells for name, cells in rows.items() if f"({code})" in name]
    return found


def test_every_figure_is_that_of_the_report(curated: Path, page: Any) -> None:
    report = json.loads((curated / "report.json").read_text(encoding="utf-8"))
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto((curated / "report.html").as_uri())

    funnel = figures_of(page, "funnel")
    steps = {**report["removed"]["reasons"], "broken records": report["quarantined"], "read": report["in"]}
    for name, figures in {**steps, "kept": report["kept"], "for training": report["kept"]["train"]}.items():
        (cells,) = [cells for step, cells in funnel.items() if step.startswith(name)]
        assert [int(cells[1]), int(cells[3])] == [figures["documents"], figures["bytes"]], name
    assert len(funnel) == len(steps) + 3
    for language, figures in report["languages"].items():
        table_name = "by-language" if figures["kept"]["documents"] else "by-language-gone"
        cells = named(figures_of(page, table_name), language)
        kept = figures["kept"]
        assert [int(cells[place]) for place in (0, 1, 3, 4, 5)] == [
            figures["in"]["documents"],
            kept["documents"],
            kept["heldout"]["documents"],
            figures["in"]["bytes"],
            kept["bytes_after_normalisation"],
        ]
    assert list(figures_of(page, "by-source")) == list(report["sources"])
    cells = page.eval_on_selector_all(
        "#by-cell tbody tr", "rows => rows.map(row => [...row.cells].slice(2).map(cell => cell.textContent))"
    )
    assert [[int(figure.replace(",", "")) for figure in row] for row in cells] == [
        [*each["in"].values(), each["train"]["documents"], each["train"]["bytes_after_normalisation"]]
        for each in report["cells"]
    ]
    lengths = report["lengths"]["languages"]
    for language, figures in report["languages"].items():
        assert sum(lengths[language]["kept"]) == figures["kept"]["documents"]
        assert sum(lengths[language]["removed"]) == figures["removed"]["documents"]
        assert page.locator(f"#lengths figure:has-text('({language})') rect").count() > 0
    assert int(figures_of(page, "clusters")["2"][0]) == report["removed"]["reasons"]["near_duplicate"]["documents"]
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []


def test_what_was_cut_and_masked_is_counted(tmp_path: Path, page: Any) -> None:
    menu = "Strona główna | O nas | Kontakt | Zaloguj się"
    phone = f"{polish(1)} Telefon: +48 601 234 567, e-mail: {ADDRESS}."
    texts = [phone, *(polish(number) for number in range(10, 16)), f"{menu}\n{menu}\n{polish(2)} {polish(5)}"]
    write_lines(tmp_path / "in.jsonl", [{"text": text, "language": "pl"} for text in [*texts, phone]])
    curate(configuration({"name": "s", "path": str(tmp_path / "in.jsonl")}, languages=["pl"]), tmp_path / "out")
    mended = json.loads((tmp_path / "out" / "report.json").read_text())["mended"]
    once = {"documents": 1, "pieces": 2, "kinds": {"email": 1, "phone": 1}}
    assert mended["masked"] == mended["sources"]["s"]["masked"] == mended["languages"]["pl"]["masked"] == once
    assert mended["cut"] == {"documents": 1, "lines": 2}
    page.goto((tmp_path / "out" / "report.html").as_uri())
    assert named(figures_of(page, "mended-by-language"), "pl") == ["1", "2", "1", "2", "1", "1"]
    assert figures_of(page, "mended-by-source")["s"] == ["1", "2", "1", "2", "1", "1"]


def test_text_is_shown_as_text_and_in_its_direction(curated: Path, page: Any) -> None:
    page.goto((curated / "report.html").as_uri())
    page.eval_on_selector_all("details", "all => all.forEach(each => { each.open = true })")
    assert page.title() == "A curated corpus"
    assert page.locator("main script, main img, main style").count() == 0
    assert page.evaluate("document.scripts.length") == 0
    seen = page.inner_text("main")
    assert seen.count("<script>document.title='taken'</script>") >= 3
    assert "mix <img" in page.inner_text("#by-source")
    arabic = page.locator("#kept .text", has_text="ذهبت")
    assert arabic.evaluate("each => getComputedStyle(each).direction") == "rtl"
    assert page.locator("#kept .text", has_text=hindi(0)[:8]).first.get_attribute("lang") == "hi"
    # Each reason has somebody to look at, and of a near-duplicate the words that differ.
    report = json.loads((curated / "report.json").read_text(encoding="utf-8"))
    assert page.locator("#removed summary").count() == len(report["removed"]["reasons"])
    assert page.locator("#near-duplicates mark").count() > 0
    assert {"bad.jsonl:7", "bad.jsonl:8"} <= set(figures_of(page, "quarantined"))
    assert "README" in figures_of(page, "files-not-read")


def test_benchmarks_found_in_the_text_are_shown(tmp_path: Path, page: Any) -> None:
    items = [" ".join(polish(number) for number in range(at, at + 2)) for at in (60, 70, 80)]
    texts = [*(polish(number) for number in range(20)), f"{polish(30)} {items[0]} {polish(31)}"]
    write_lines(tmp_path / "in.jsonl", [{"text": text} for text in texts])
    settings = configuration({"path": str(tmp_path / "in.jsonl")}, languages=["pl"], decontamination={"tasks": ["t"]})
    asked = Benchmark("t<b>", tuple(Item(number, f"{number}", (text,)) for number, text in enumerate(items)))
    curate(settings, tmp_path / "out", [asked])
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["removed"]["reasons"]["contaminated"]["documents"] == 1
    page.goto((tmp_path / "out" / "report.html").as_uri())
    assert figures_of(page, "by-benchmark") == {"t<b>": ["3", "0", "1", "2", "0", "1", "0", "0"]}
    assert page.locator("#removed .text", has_text=polish(60)).count() == 1


def test_personal_data_is_masked_even_where_the_corpus_keeps_it(curated: Path) -> None:
    assert ADDRESS not in (curated / "report.html").read_text(encoding="utf-8")


def test_it_is_readable_on_a_phone_and_in_the_dark(curated: Path, page: Any) -> None:
    page.set_viewport_size({"width": 380, "height": 800})
    page.emulate_media(color_scheme="dark")
    page.goto((curated / "report.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 380
    light, dark = (
        page.evaluate("getComputedStyle(document.body).backgroundColor")
        for scheme in ("light", "dark")
        if page.emulate_media(color_scheme=scheme) is None
    )
    assert [max(map(int, re.findall(r"\d+", colour)[:3])) > 128 for colour in (light, dark)] == [True, False]
    boxes = [each.bounding_box() for each in page.locator("#lengths svg").all()]
    assert len(boxes) >= 3
    assert all(box["width"] > 250 and box["height"] > 80 for box in boxes)


def test_without_samples_it_holds_none_of_the_text(curated: Path, tmp_path: Path, run_cli: Any) -> None:
    run_cli("report", curated, "-o", tmp_path / "figures.html", "--without-samples", "--title", "Mine & yours")
    shown = (tmp_path / "figures.html").read_text(encoding="utf-8")
    assert "<title>Mine &amp; yours</title>" in shown
    assert "<article" not in shown
    for text in (polish(0), hindi(0), ARABIC, "taken", "bad.jsonl"):
        assert text[:20] not in shown
    assert "near-duplicates" in shown


def test_a_folder_without_these_figures_is_refused(tmp_path: Path, curated: Path) -> None:
    with pytest.raises(UserError, match="no curated corpus"):
        write_report_page(tmp_path, tmp_path / "page.html")
    report = json.loads((curated / "report.json").read_text(encoding="utf-8"))
    write_json(tmp_path / "report.json", {key: value for key, value in report.items() if key != "mended"})
    with pytest.raises(UserError, match="no 'mended'") as caught:
        write_report_page(tmp_path, tmp_path / "page.html")
    assert "has to be made again" in str(caught.value)


def test_small_shares_are_never_nothing() -> None:
    assert [percent(share) for share in (0.0, 0.00001, 0.00123, 0.5)] == ["0.0 %", "&lt; 0.01 %", "0.12 %", "50.0 %"]
    assert "<td>&lt;b&gt;</td>" in table(("a", "b"), [("x", "<b>")], name="t")
    assert "\x00" not in sheet("\x00\ud800", [])
