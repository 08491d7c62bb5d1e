"""The page as a file: complete, safe whatever the names are, small, and readable without its script."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from yolo.data.packed import PackedStrings
from yolo.training.report import write_report
from yolo.training.report.bootstrap import score
from yolo.training.report.findings import MOST_PER_IMAGE, false_positives, misses
from yolo.training.report.gallery import PICTURE_BYTES, cut_around, data_uri
from yolo.training.report.markup import escape, join, number, signed, tag
from yolo.training.report.slices import slice_by_size

VOID = {"meta", "input", "br", "rect", "line", "circle", "path", "polyline", "image"}


class Page(HTMLParser):
    """Tables, headings and elements of a page; fails where elements are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.texts.append((self.open[-1], data))

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for element, attributes in self.elements if element == name]


@pytest.fixture(scope="module")
def text(run, noise, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "report.html"
    title = "best.ckpt & <i>friends</i>"
    assert write_report(path, run.evaluation, run.table, loader=noise(), title=title, facts={"model": "<x>"}) == path
    return path.read_text()


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_it_asks_nobody_for_anything(text: str, page: Page):
    assert not re.search(r"(?i)https?:|//\w+\.\w+/|@import|url\(|\beval\b|new Function|XMLHttp|fetch\(|WebSocket", text)
    links = [value for _, attributes in page.elements for key, value in attributes.items() if key in ("href", "src")]
    assert links
    assert all(link.startswith(("#", "data:image/jpeg;base64,")) for link in links)
    assert not any(name in ("link", "iframe", "object", "base", "form", "img") for name, _ in page.elements)


def test_its_policy_allows_its_own_style_and_script_and_nothing_else(text: str, page: Page):
    policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    for name in ("style", "script"):
        content = re.search(rf"<{name}>(.*?)</{name}>", text, re.DOTALL).group(1)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy
    assert not any(key.startswith("on") or key == "style" for _, attributes in page.elements for key in attributes)


def test_names_cannot_break_out(text: str, page: Page):
    assert len(page.all("script")) == 2
    assert "<img" not in text
    assert "<b>3" not in text
    assert "<i>friends" not in text
    assert "<x>" not in text
    headings = [content for name, content in page.texts if name == "th"]
    assert "</script><img src=x onerror=alert(1)>" in headings
    assert 'bird & "bee"' in headings


def test_it_can_be_read_without_the_script(run, page: Page):
    assert [content for name, content in page.texts if name == "h1"] == ["best.ckpt & <i>friends</i>"]
    headings = [content for name, content in page.texts if name == "h2"]
    assert headings == [
        "Summary", "Classes", "Curves", "Thresholds", "Error budget", "Confusions", "By size", "Calibration",
        "Surest false positives", "Plainest misses",
    ]  # fmt: skip
    cells = {content for name, content in page.texts if name == "td"}
    assert {f"{value:.4f}" for value in run.evaluation.stats.as_dict().values() if value >= 0} <= cells
    assert {f"{value:.3f}" for value in run.evaluation.per_class[:3].ravel()} <= cells
    assert {str(count) for count in run.evaluation.analysis.errors.counts.values()} <= cells
    assert len([svg for svg in page.all("svg") if svg.get("class") == "chart"]) == 5
    assert len([line for line in page.all("polyline") if "mean" in line["class"]]) == 5
    protocols = [content for name, content in page.texts if str(run.evaluation.protocol) in content]
    assert len(protocols) >= 6


def test_those_who_do_not_see_it_can_use_it(page: Page):
    assert page.all("html") == [{"lang": "en"}]
    assert all(svg.get("aria-label") or svg.get("aria-hidden") for svg in page.all("svg"))
    assert all(head.get("scope") in ("col", "row") for head in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    targets = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert {link["href"][1:] for link in page.all("a")} <= targets
    assert len(targets) == sum("id" in attributes for _, attributes in page.elements)


def luminance(color: str) -> float:
    color = color * 2 if len(color) == 3 else color
    channels = [int(color[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_have_contrast(text: str, scheme: int):
    """WCAG 2: 4.5 for text, 3 for the lines of a chart."""
    palette = dict(
        re.findall(r"--([\w]+): #([0-9a-f]{3,6})", re.findall(r":root \{(.*?)\n *\}", text, re.DOTALL)[scheme])
    )
    for name in ("text", "muted", "accent", "second", "good", "bad", *(f"c{i}" for i in range(8))):
        for ground in ("ground", "raised", "faint"):
            bright, dark = sorted((luminance(palette[name]), luminance(palette[ground])), reverse=True)
            least = 3 if re.fullmatch(r"c\d|second", name) else 4.5
            assert (bright + 0.05) / (dark + 0.05) >= least, (name, ground)


def test_encrypted_images_are_left_out_and_that_is_said(run, noise, tmp_path: Path):
    class Secret(noise):
        confidential = True

        def __call__(self, path: str) -> np.ndarray:
            raise AssertionError("a picture was decrypted")

    path = write_report(tmp_path / "r.html", run.evaluation, run.table, loader=Secret(), title="t")
    assert "data:image/jpeg" not in path.read_text()
    assert "The images are encrypted: their pictures are left out." in path.read_text()


def test_five_hundred_images_of_noise_stay_below_five_megabytes(
    make_table, make_found, make_run, noise, tmp_path: Path
):
    """The worst case: noise does not compress, and every class has curves of its own."""
    table = make_table(500, [f"class number {i}" for i in range(80)], most=12, size=(640, 480))
    run = make_run(table, make_found(table, extra=90.0))
    assert len(run.evaluation.analysis.detections) > 45_000
    path = write_report(tmp_path / "r.html", run.evaluation, table, loader=noise((640, 480)), title="noise")
    size, page = path.stat().st_size, path.read_text()
    assert page.count("data:image/jpeg") == 48
    assert size < 5_000_000, f"{size} bytes"


def test_every_picture_keeps_to_its_size(noise):
    for side in (64, 300, 3000):
        uri = data_uri(noise((side, side))("any"))
        assert len(uri) <= PICTURE_BYTES
        assert base64.b64decode(uri.partition(",")[2])[:2] == b"\xff\xd8"


@pytest.mark.parametrize(
    ("box", "size", "expected"),
    [
        ((100, 100, 150, 120), (640, 480), (65, 50, 185, 170)),
        ((0, 0, 50, 50), (640, 480), (0, 0, 120, 120)),
        ((600, 440, 640, 480), (640, 480), (544, 384, 640, 480)),
        ((100, 100, 102, 101), (640, 480), (65, 64, 137, 136)),
        ((0, 0, 600, 400), (640, 480), (0, 0, 640, 480)),
        ((3, 3, 6, 6), (10, 8), (0, 0, 10, 8)),
        ((-50, -50, 60, 10), (64, 64), (0, 0, 64, 64)),
    ],
)
def test_the_cut_is_inside_the_picture_and_has_the_box_in_it(box, size, expected):
    assert cut_around(np.array(box, float), size) == expected


def test_findings_are_the_worst_ones_and_not_all_of_one_picture(run):
    analysis = run.evaluation.analysis
    wrong = false_positives(analysis, 10)
    scores = [analysis.detections.scores[finding.index] for finding in wrong]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == analysis.detections.scores[analysis.matches.wrong].max()
    assert all(analysis.matches.wrong[finding.index] for finding in wrong)
    every = false_positives(analysis, 10_000)
    assert max(np.bincount([finding.image for finding in every])) == MOST_PER_IMAGE
    lost = misses(analysis, 10_000)
    never = [analysis.matches.detection[finding.index] < 0 for finding in lost]
    assert never == sorted(never, reverse=True)
    assert not any(analysis.truth.crowd[finding.index] for finding in lost)
    areas = [analysis.truth.area[finding.index] for finding, unseen in zip(lost, never, strict=True) if unseen]
    assert areas == sorted(areas, reverse=True)
    assert all(
        score <= analysis.confidence for finding in lost if (score := best_score(analysis, finding.index)) is not None
    )


def best_score(analysis, index: int) -> float | None:
    detection = analysis.matches.detection[index]
    return None if detection < 0 else float(analysis.detections.scores[detection])


def test_what_a_finding_says(evaluated):
    box = (10.0, 10.0, 50.0, 50.0)
    pictures = [
        ([(0, box)], [(1, 0.9, box), (1, 0.2, (300.0, 300.0, 340.0, 340.0))]),
        ([(0, box)], [(0, 0.8, box), (0, 0.7, (12.0, 10.0, 50.0, 50.0))]),
        ([(0, box)], [(0, 0.6, (10.0, 10.0, 50.0, 24.0))]),
        ([(0, box)], [(0, 0.1, box), (1, 0.5, (200.0, 200.0, 240.0, 240.0))]),
        ([(1, box)], []),
    ]
    analysis = evaluated(("cat", "dog"), pictures).analysis
    assert [(f.title, f.detail) for f in false_positives(analysis, 9)] == [
        ("dog 0.90", "the object there is cat"),
        ("cat 0.70", "the cat is found already"),
        ("cat 0.60", "it fits the cat badly"),
        ("dog 0.50", "there is no object"),
    ]
    assert [(f.image, f.title, f.detail) for f in misses(analysis, 9)] == [
        (0, "cat missed", "nearest: dog 0.90, IoU 1.00"),
        (2, "cat missed", "nearest: cat 0.60, IoU 0.35"),
        (4, "dog missed", "nothing is near it"),
        (3, "cat missed", "found, but only with 0.10"),
    ]


def test_slices_by_size_add_up(run):
    slices = slice_by_size(run.evaluation.analysis, run.evaluation.stats)
    assert [part.name for part in slices] == ["small", "medium", "large"]
    for name in ("true_positives", "false_positives", "truths"):
        total = sum(getattr(part.counts, name) for part in slices)
        assert np.array_equal(total, getattr(run.evaluation.counts, name))
    assert all(part.counts.truths.sum() for part in slices[:2])


def test_the_size_of_a_slice_is_of_the_object_where_there_is_one(evaluated):
    small, large = (0.0, 0.0, 31.0, 31.0), (0.0, 0.0, 34.0, 34.0)
    pictures = [([(0, small)], [(0, 0.9, large)]), ([], [(0, 0.9, (0.0, 0.0, 96.0, 96.0)), (0, 0.2, large)])]
    evaluation = evaluated(("cat",), pictures)
    counts = [
        (int(part.counts.truths[0]), int(part.counts.true_positives[0]), int(part.counts.false_positives[0]))
        for part in slice_by_size(evaluation.analysis, evaluation.stats)
    ]
    assert counts == [(1, 1, 0), (0, 0, 0), (0, 0, 1)]


def test_many_classes_make_a_drawn_matrix_of_those_in_use(make_table, make_found, make_run, tmp_path: Path):
    table = make_table(30, [f"c{i}" for i in range(140)], most=40)
    run = make_run(table, make_found(table))
    page = Page(write_report(tmp_path / "r.html", run.evaluation, table, loader=None, title="t").read_text())
    matrix = next(svg for svg in page.all("svg") if svg.get("id") == "matrix")
    assert matrix["viewbox"] == "0 0 1106 1106"
    assert ("span", "The 100 classes with the most mistakes.") in page.texts


@pytest.mark.parametrize("most", [0, 3])
def test_a_split_without_objects_or_without_classes_in_use(make_table, make_found, make_run, tmp_path: Path, most: int):
    table = make_table(5, ["a", "b"], most=most, crowds=False)
    run = make_run(table, make_found(table, extra=0.0 if most else 2.0))
    text = write_report(tmp_path / "r.html", run.evaluation, table, loader=None, title="t").read_text()
    cards = [content for name, content in Page(text).texts if name == "b"][:6]
    assert (cards == ["–"] * 6) == (most == 0)
    assert ("as there are no objects" in text) == (most == 0)
    assert "nan" not in re.sub(r"<script.*", "", text, flags=re.DOTALL).lower().replace("finance", "")
    assert np.isnan(score(run.evaluation.analysis, np.ones((5, 1), np.int32)).ap).any()


def test_file_names_that_are_no_text_do_not_stop_it(run, noise, tmp_path: Path):
    paths = PackedStrings.pack(f"/data/bad\udcff{i}.jpg" for i in range(len(run.table)))
    table = replace(run.table, paths=paths)
    text = write_report(tmp_path / "r.html", run.evaluation, table, loader=None, title="t").read_text()
    assert "<h1>t</h1>" in text


def test_a_table_of_other_images_is_refused(run, tmp_path: Path):
    with pytest.raises(ValueError, match="a table of 3 images for an evaluation of 40"):
        write_report(tmp_path / "r.html", run.evaluation, run.table.select(np.arange(3)), loader=None, title="t")


def test_markup_escapes_what_is_not_markup():
    assert (
        tag("a", "<b>", tag("i", "x"), href='"', hidden=True, title=None)
        == '<a href="&quot;" hidden>&lt;b&gt;<i>x</i></a>'
    )
    assert tag("br", class_="x") == '<br class="x"/>'
    assert escape(escape("<")) == "&lt;"
    assert join(["<", tag("b")], ", ") == "&lt;, <b></b>"
    assert "<" not in join(["<"], "") + escape("'\"")[:0]


def test_figures():
    assert [number(value) for value in (0.12345, -1.0, float("nan"), 0.0)] == ["0.123", "–", "–", "0.000"]
    assert [signed(value) for value in (0.12345, -0.1, 0.0, -0.0001, 0.0004, float("nan"))] == [
        "+0.123", "−0.100", "0.000", "0.000", "0.000", "–",
    ]  # fmt: skip
