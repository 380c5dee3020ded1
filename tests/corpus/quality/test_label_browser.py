"""`vernacular label` in a real browser: label by keyboard, stop, go on, train on the labels, look at the report."""

from __future__ import annotations

import atexit
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from quality_corpora import prose, write_corpus

RunCli = Callable[..., subprocess.CompletedProcess[str]]
Page = Any
SECONDS = 60
HOSTILE = "<img src=x onerror=\"document.title='taken'\"><b>bold</b> & <script>document.title='taken'</script>"
ARABIC = "ذهبت الجدة إلى السوق صباح السبت واشترت التفاح والكمثرى، ثم عادت إلى البيت. كان الجو جميلا والأطفال سعداء."


class Labelling:
    """`vernacular label` in a process of its own."""

    def __init__(self, documents: Path, out: Path, *words: str) -> None:
        command = [sys.executable, "-m", "vernacular.cli.main", "label", str(documents), "-o", str(out), "--port", "0"]
        self.process = subprocess.Popen(
            [*command, *words],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3] / "src")},
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        atexit.register(self.process.kill)
        assert self.process.stderr is not None
        said = ""
        while "labelling at" not in said:
            line = self.process.stderr.readline()
            assert line, said
            said += line
        self.url = re.search(r"http://\S+", said)[0]  # type: ignore[index]

    def stop(self, how: signal.Signals) -> str:
        self.process.send_signal(how)
        _, said = self.process.communicate(timeout=SECONDS)
        return said


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory, run_cli: RunCli) -> Path:
    """A recipe's curated corpus: stories, damaged ones, one text full of markup and one from right to left."""
    folder = tmp_path_factory.mktemp("label")
    path = write_corpus(folder / "stories.jsonl", ("pl", "hi", "ta", "en"), 10)
    more = [{"text": f"{HOSTILE} {prose('en', 900, 1)}", "language": "en"}, {"text": ARABIC, "language": "ar"}]
    with path.open("a", encoding="utf-8") as file:
        file.write("\n" + "\n".join(json.dumps(one, ensure_ascii=False) for one in more))
    (folder / "recipe.yaml").write_text(
        "name: hand\nparameters: {labels: null}\nstages:\n"
        f"  corpus: {{do: curate, sources: [{{path: {path}, language_field: language}}], "
        "near_duplicates: {enabled: false}}\n"
        "  quality: {do: train-quality, documents: corpus, labels: '${labels}', minimum_documents: 3, folds: 2,\n"
        "    trees: {rounds: 20}}\n"
        f"  graded: {{do: curate, sources: [{{path: {path}, language_field: language}}], "
        "near_duplicates: {enabled: false}, quality: {model: quality, probability: 0.3}}\n",
        encoding="utf-8",
    )
    run_cli("run", folder / "recipe.yaml", "labels=x", "--until", "corpus", "--out", folder / "runs")
    return folder


def grade_by_keyboard(page: Page, key: str) -> None:
    """Press a key and wait until the count has moved."""
    before = page.inner_text("#count"), page.get_attribute("#text", "data-document")
    page.keyboard.press(key)
    page.wait_for_function(
        "before => document.getElementById('message').hidden === false || "
        "JSON.stringify([document.getElementById('count').innerText, "
        "document.getElementById('text').dataset.document]) !== before",
        arg=json.dumps(list(before), ensure_ascii=False, separators=(",", ":")),
    )


def test_label_twenty_documents_stop_go_on_train_and_see_the_plots(curated: Path, page: Page, run_cli: RunCli) -> None:
    documents, labels = curated / "runs" / "hand" / "corpus", curated / "labels.sqlite"
    first = Labelling(documents, labels, "--number", "30")
    page.goto(first.url)
    page.fill("#name", "Zosia")
    page.keyboard.press("Enter")
    page.wait_for_selector("#text:not([hidden])")
    for number in range(12):
        grade_by_keyboard(page, "123"[number % 3])
    grade_by_keyboard(page, "u")
    first.process.kill()  # the machine goes down: nothing that was given is lost
    first.process.wait(SECONDS)

    second = Labelling(documents, labels, "--number", "30")
    page.goto(f"{second.url}?annotator=Zosia")
    page.wait_for_selector("#text:not([hidden])")
    assert int(page.inner_text("#count").split()[0]) >= 10
    number = 0
    while int(page.inner_text("#count").split()[0]) < 20:
        grade_by_keyboard(page, "321"[number % 3])
        number += 1
    assert "with yourself" in page.inner_text("#agreement")
    said = second.stop(signal.SIGINT)
    assert "Traceback" not in said

    run_cli("run", curated / "recipe.yaml", f"labels={labels}", "--out", curated / "runs")
    look_at_the_classifier(page, curated / "runs" / "hand" / "quality")
    look_at_the_graded_corpus(page, curated / "runs" / "hand" / "graded")


def look_at_the_classifier(page: Page, folder: Path) -> None:
    """Its report: figures as in report.json, plots that can be seen, documents around each threshold to read."""
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    page.goto((folder / "report.html").as_uri())
    assert page.inner_text("h1") == "Quality classifier"
    rows = page.eval_on_selector_all(
        "#by-grade tbody tr", "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
    )
    assert rows == [
        [grade, str(one["documents"]), *(f"{one[key]:.3f}" for key in ("precision", "recall", "f1"))]
        for grade, one in report["grades"].items()
    ]
    for name in ("reliability", "thresholds", "importance", "damage"):
        picture = page.locator(f"#{name} img")
        picture.scroll_into_view_if_needed()
        assert picture.evaluate("image => image.complete && image.naturalWidth") > 500, name
        assert picture.bounding_box()["width"] > 400, name
    page.eval_on_selector_all("details", "all => all.forEach(each => { each.open = true })")
    shown = page.locator("#reading details")
    assert [shown.nth(place).locator("summary").inner_text()[:11] for place in range(shown.count())] == [
        f"around {threshold:.2f}" for threshold in (0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
    ]
    for place in range(shown.count()):
        given = [float(facts.split(" · ")[0]) for facts in shown.nth(place).locator(".facts").all_inner_texts()]
        assert len(given) >= 6
        threshold = float(shown.nth(place).locator("summary").inner_text()[7:11])
        above = [value for value in given if value > threshold]
        assert above == given[: len(above)], "those above come first"
        assert all(text.strip() for text in shown.nth(place).locator(".text").all_inner_texts())
    assert page.evaluate("document.scripts.length") == 0


def look_at_the_graded_corpus(page: Page, folder: Path) -> None:
    """The corpus that the classifier graded: its page has the threshold curve, which keeps what the stage kept."""
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    quality = report["quality"]
    page.goto((folder / "report.html").as_uri())
    kept = {point["threshold"]: point for point in quality["thresholds"]}[quality["probability"]]
    assert kept["documents"] == report["kept"]["documents"]
    assert kept["bytes"] == report["kept"]["bytes_after_normalisation"]
    rows = page.eval_on_selector_all(
        "#thresholds tbody tr", "rows => rows.map(row => [row.cells[0].textContent, row.cells[1].textContent])"
    )
    assert rows == [[f"{point['threshold']:.2f}", str(point["documents"])] for point in quality["thresholds"]]
    assert page.locator("#quality svg polyline").count() == 2
    assert page.locator("#quality svg").first.bounding_box()["height"] > 150
    assert page.locator("#quality figure rect").count() > 0


def test_text_is_shown_as_text_and_in_its_direction(curated: Path, page: Page) -> None:
    running = Labelling(curated / "runs" / "hand" / "corpus", curated / "shown.sqlite", "--number", "60")
    page.goto(f"{running.url}?annotator=Ravi")
    page.wait_for_selector("#text:not([hidden])")
    title, directions, seen = page.title(), {}, ""
    while page.is_visible("#text"):
        text = page.inner_text("#text")
        seen += text
        directions[page.get_attribute("#text", "lang")] = page.evaluate(
            "getComputedStyle(document.getElementById('text')).direction"
        )
        grade_by_keyboard(page, "h")
    assert "onerror=" in seen
    assert "<script>" in seen
    assert page.title() == title
    assert page.locator("#text img, #text script, #text b").count() == 0
    assert directions["ar"] == "rtl"
    assert {directions[code] for code in ("pl", "hi", "ta", "en")} == {"ltr"}
    assert "All documents are graded" in page.inner_text("#message")
    running.stop(signal.SIGTERM)


def test_two_people_agree_by_kappa_and_see_nothing_of_each_other(curated: Path) -> None:
    running = Labelling(curated / "runs" / "hand" / "corpus", curated / "two.sqlite", "--number", "12")

    def ask(act: str, **more: Any) -> dict[str, Any]:
        return httpx.post(f"{running.url}/api/{act}", json=more).json()

    for annotator, grades in (("a", ("HIGH", "LOW")), ("b", ("HIGH", "LOW", "HIGH"))):
        shown, number = ask("next", annotator=annotator), 0
        while (task := shown["task"]) is not None:
            assert set(task) == {"document", "text", "language"}
            grade = grades[int(task["document"], 16) % len(grades)]
            shown = ask("verdict", annotator=annotator, document=task["document"], grade=grade, seconds=1)
            number += 1
        assert number > 12  # one at least came back
        assert shown["progress"]["with_herself"]["kappa"] in (1, None)
        assert shown["progress"]["with_herself"]["documents"] >= 1
    with_a = shown["progress"]["with_others"]["a"]
    assert with_a["documents"] == 12
    assert -1 <= with_a["kappa"] < 1
    running.stop(signal.SIGTERM)


def test_what_is_sent_amiss_is_refused(curated: Path) -> None:
    running = Labelling(curated / "runs" / "hand" / "corpus", curated / "amiss.sqlite")
    address = f"{running.url}/api/verdict"
    task = httpx.post(f"{running.url}/api/next", json={"annotator": "a"}).json()["task"]
    sent = {"annotator": "a", "document": task["document"], "grade": "HIGH", "seconds": 1}
    for wrong, said in (
        ({**sent, "grade": "BEST"}, "is no grade"),
        ({**sent, "document": "f" * 32}, "not waiting"),
        ({**sent, "annotator": " "}, "who you are"),
        ([], "who you are"),
    ):
        answer = httpx.post(address, json=wrong)
        assert answer.status_code == 400
        assert said in answer.json()["error"]
    form = httpx.post(address, content=json.dumps(sent), headers={"content-type": "text/plain"})
    assert form.status_code == 400
    assert "default-src 'none'" in httpx.get(running.url).headers["content-security-policy"]
    running.stop(signal.SIGTERM)


def test_labels_of_another_corpus_and_other_files_are_refused(curated: Path, tmp_path: Path, run_cli: RunCli) -> None:
    documents = curated / "runs" / "hand" / "corpus"
    (tmp_path / "notes.txt").write_text("no labels " * 200)
    refused = run_cli("label", documents, "-o", tmp_path / "notes.txt", "--port", "0", code=2)
    assert "no file of labels" in refused.stderr
    refused = run_cli("label", tmp_path, "-o", tmp_path / "labels.sqlite", code=2)
    assert "no artifact: it has no artifact.json" in refused.stderr
