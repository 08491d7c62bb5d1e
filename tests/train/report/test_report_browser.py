"""The pages in a real browser, without a screen: what their script does, and that they ask nobody for anything."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from availability import tool
from yolo.training.metrics import Detected
from yolo.training.report import write_comparison, write_report
from yolo.training.report.compare import compare

QUIET = (
    "headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
    "disable-component-update", "disable-sync", "disable-dev-shm-usage", "window-size=1200,900",
)  # fmt: skip
NOTHING = Detected(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    options, service = webdriver.ChromeOptions(), webdriver.ChromeService(tool("chromedriver"))
    options.binary_location = tool("chromium")
    options.page_load_strategy = "normal"
    for argument in (*QUIET, f"user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=service)
    driver.set_page_load_timeout(20)
    driver.set_script_timeout(20)
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def many(make_table, make_found, make_run):
    """Eighty classes."""
    table = make_table(40, [f"class {i}" for i in range(80)], most=30)
    return make_run(table, make_found(table))


@pytest.fixture(scope="module")
def pages(run, many, make_table, make_found, make_run, noise, tmp_path_factory: pytest.TempPathFactory):
    """Pages of every kind, by their name."""
    folder = tmp_path_factory.mktemp("pages")

    def page(name: str, one) -> Path:
        return write_report(folder / f"{name}.html", one.evaluation, one.table, loader=noise(), title=name)

    empty, single = make_table(5, ["a", "b"], most=0), make_table(12, ["one", "none"])
    long = make_table(20, ["W" * 300, "a name of many words " * 12, "__proto__", "none"])
    other = make_run(run.table, make_found(run.table, seed=7, jitter=0.15))
    compared = compare(run.evaluation, other.evaluation, resamples=100)
    both = run.evaluation, other.evaluation
    return {
        "usual": page("usual", run),
        "many": page("many", many),
        "long": page("long", make_run(long, make_found(long))),
        "one": page("one", make_run(single, make_found(single))),
        "no truth": page("no truth", make_run(empty, make_found(empty))),
        "no detections": page("no detections", make_run(run.table, [NOTHING] * len(run.table))),
        "nothing": page("nothing", make_run(empty, [NOTHING] * len(empty))),
        "compared": write_comparison(folder / "two.html", *both, compared, names=("a <b>", "c & d"), title="two"),
    }


@pytest.fixture
def opened(browser: webdriver.Chrome, pages: dict[str, Path]) -> Callable[[str], webdriver.Chrome]:
    def show(name: str) -> webdriver.Chrome:
        browser.get(pages[name].as_uri())
        return browser

    return show


def cells(browser: webdriver.Chrome, table: str, column: int) -> list[str]:
    """The texts of a column, of the rows that are shown."""
    script = """
        const rows = [...document.querySelectorAll(`#${arguments[0]} tbody tr`)].filter((row) => !row.hidden);
        return rows.map((row) => row.cells[arguments[1]].textContent.trim());
    """
    found: list[str] = browser.execute_script(script, table, column)
    return found


def button(browser: webdriver.Chrome, text: str) -> WebElement:
    return browser.find_element(By.XPATH, f"//button[text()='{text}']")


def requests(browser: webdriver.Chrome) -> set[str]:
    """What was asked for since the last call, pictures inside the page left out."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [message["params"]["request"] for message in messages if message["method"] == "Network.requestWillBeSent"]
    return {request["url"] for request in sent if not request["url"].startswith("data:")}


def test_every_page_opens_without_a_complaint_and_asks_for_nothing_else(browser, pages, opened):
    requests(browser)
    browser.get_log("browser")
    for name, path in pages.items():
        opened(name)
        ActionChains(browser).move_to_element(browser.find_element(By.CSS_SELECTOR, "svg.chart")).perform()
        assert browser.get_log("browser") == [], name
        assert requests(browser) == {path.as_uri()}
        assert browser.title == path.stem


def test_a_mistake_in_the_script_would_be_seen(browser, opened):
    """The test above can fail: what it looks at does hold errors, and other addresses."""
    opened("usual")
    requests(browser)
    script = "setTimeout(() => { throw new Error('oops') }); new Image().src = 'http://127.0.0.1:9/x.png';"
    browser.execute_async_script(f"{script} setTimeout(arguments[0], 100);")
    told = " ".join(entry["message"] for entry in browser.get_log("browser"))
    assert "oops" in told
    assert "Content Security Policy" in told


def test_a_click_on_a_heading_sorts(opened, run):
    browser = opened("usual")
    head = browser.find_element(By.XPATH, "//table[@id='per-class']//th[.='AP']/button")
    known = run.evaluation.per_class[:3, 0]
    head.click()
    assert cells(browser, "per-class", 2) == [*(f"{ap:.3f}" for ap in sorted(known, reverse=True)), "–"]
    head.click()
    assert cells(browser, "per-class", 2) == [*(f"{ap:.3f}" for ap in sorted(known)), "–"]
    browser.find_element(By.XPATH, "//table[@id='per-class']//th[.='Class']/button").click()
    assert cells(browser, "per-class", 0) == [
        "</script><img src=x onerror=alert(1)>", 'bird & "bee"', "cat", "dog",
    ]  # fmt: skip


def test_differences_are_sorted_by_their_value(opened):
    browser = opened("compared")
    browser.find_element(By.XPATH, "//table[@id='per-class']//th[.='AP50, difference']/button").click()
    values = [float(text.split()[0].replace("−", "-")) for text in cells(browser, "per-class", 6)[:3]]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == 3


def test_a_filter_hides_the_other_classes(opened):
    browser = opened("many")
    field = browser.find_element(By.CSS_SELECTOR, "#classes input[type=search]")
    field.send_keys("SS 7")
    assert cells(browser, "per-class", 0) == ["class 7", *(f"class {i}" for i in range(70, 80))]
    assert browser.find_element(By.CSS_SELECTOR, "#classes [role=status]").text == "11 of 80"
    field.send_keys(Keys.CONTROL, "a", Keys.DELETE)
    assert len(cells(browser, "per-class", 0)) == 80


def test_thresholds_can_be_tried(opened, run):
    browser = opened("usual")
    curves = run.evaluation.analysis.curves
    best, where = curves.best_f1_per_class()
    button(browser, "Best F1 of each class").click()
    assert cells(browser, "chosen", 1) == [f"{value:.3f}" for value in (*where[:3], 0.25)]
    assert cells(browser, "chosen", 4) == [*(f"{value:.3f}" for value in best[:3]), "–"]
    slider = browser.find_element(By.CSS_SELECTOR, "#chosen tbody tr:nth-child(2) input")
    slider.send_keys(Keys.HOME, Keys.ARROW_RIGHT)
    counts = curves.counts(1)
    right, wrong, objects = (int(n[1]) for n in (counts.true_positives, counts.false_positives, counts.truths))
    row = [cells(browser, "chosen", column)[1] for column in range(1, 8)]
    rates = counts.precision()[1], counts.recall()[1], counts.f1()[1]
    assert row == ["0.001", *(f"{rate:.3f}" for rate in rates), str(right), str(wrong), str(objects - right)]
    button(browser, "Export as JSON").click()
    exported = json.loads(browser.find_element(By.ID, "chosen-json").get_attribute("value"))
    assert exported["thresholds"]["dog"] == 0.001
    assert exported["thresholds"]["cat"] == pytest.approx(where[0])
    assert list(exported["thresholds"]) == list(run.evaluation.class_names)
    button(browser, "Best mean F1").click()
    assert f"F1 {curves.best_f1()[0]:.3f};" in browser.find_element(By.ID, "chosen-means").text
    button(browser, "Back to the start").click()
    means = "precision {:.3f}, recall {:.3f}, F1 {:.3f};".format(*run.evaluation.counts.means())
    assert means in browser.find_element(By.ID, "chosen-means").text


def test_a_pointer_on_a_curve_reads_it_off(opened, run):
    browser = opened("usual")
    chart = browser.find_element(By.CSS_SELECTOR, "svg.chart[data-chart=f1]")
    readout = browser.find_element(By.XPATH, "//figure[.//*[@data-chart='f1']]//*[contains(@class, 'readout')]")
    before = readout.text
    ActionChains(browser).move_to_element(chart).perform()
    curves = run.evaluation.analysis.curves
    x = float(readout.text.split()[1].rstrip(":"))
    assert readout.text.startswith("confidence ")
    assert 0.4 < x < 0.6
    near = np.abs(curves.confidence - x) <= 0.0055
    shown = [float(part.split()[-1]) for part in readout.text.split(" · ")]
    for value, curve in zip(shown, (curves.mean(curves.f1), *curves.f1[:3]), strict=True):
        assert curve[near].min() - 6e-4 <= value <= curve[near].max() + 6e-4
    assert len(chart.find_elements(By.CSS_SELECTOR, ".pointer circle")) == 4
    ActionChains(browser).move_to_element(browser.find_element(By.TAG_NAME, "h1")).perform()
    assert readout.text == before
    chart.send_keys(Keys.ARROW_RIGHT)
    assert x < float(readout.text.split()[1].rstrip(":")) < x + 0.03


def test_one_class_of_many_can_be_brought_out(opened, many):
    browser = opened("many")
    browser.find_element(By.XPATH, "//*[@id='highlight']//option[.='class 3']").click()
    assert len(browser.find_elements(By.CSS_SELECTOR, "#curves .chosen")) == 4
    points = browser.find_element(By.CSS_SELECTOR, "[data-chart=r] .chosen").get_attribute("points").split()
    recall = [1 - (float(point.split(",")[1]) - 10) / 262 for point in points]
    assert recall == pytest.approx(many.evaluation.analysis.curves.recall[3], abs=1e-3)
    chart = browser.find_element(By.CSS_SELECTOR, "[data-chart=p]")
    ActionChains(browser).move_to_element(chart).perform()
    assert "class 3" in browser.find_element(By.XPATH, "//figure[.//*[@data-chart='p']]").text


def test_the_drawn_matrix_tells_its_cells(opened):
    browser = opened("many")
    matrix = browser.find_element(By.CSS_SELECTOR, "svg.matrix")
    ActionChains(browser).move_to_element(matrix).perform()
    assert "predicted class" in browser.find_element(By.CSS_SELECTOR, "#confusion .readout").text


def test_nothing_is_wider_than_a_phone(browser, opened):
    """Wide tables scroll in themselves, and the longest name wraps."""
    size = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        for name in ("usual", "long", "many", "compared"):
            opened(name)
            assert browser.execute_script("return document.scrollingElement.scrollWidth") == 360, name
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_dark_where_everything_is(browser, opened, scheme):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    try:
        opened("usual")
        ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert (int(ground.removeprefix("rgb(").split(",")[0]) > 128) == (scheme == "light")
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_it_can_be_read_without_javascript(browser, opened, run):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        opened("usual")
        shot = browser.execute_cdp_cmd("DOMSnapshot.captureSnapshot", {"computedStyles": []})
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    layout, strings = shot["documents"][0]["layout"], shot["strings"]
    seen = {strings[index] for index in layout["text"] if index >= 0}
    assert {f"{value:.3f}" for value in run.evaluation.per_class[:3].ravel()} <= seen
    assert {f"{peak:.3f}" for peak in run.evaluation.analysis.curves.best_f1_per_class()[0][:3]} <= seen
    assert {"Surest false positives", "Plainest misses", "bird & \"bee\""} <= seen  # fmt: skip
    assert not {"All classes ", "Export as JSON"} & seen
    names = {strings[shot["documents"][0]["nodes"]["nodeName"][node]] for node in layout["nodeIndex"]}
    assert {"polyline", "image", "TABLE"} <= names
    assert not {"INPUT", "BUTTON"} & names
