"""The page of a bundle in a real browser, with onnxruntime-web."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import subprocess
import threading

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from availability import cannot_run, tool
from yolo.core import Predictor

QUIET = (
    "headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
    "disable-component-update", "disable-sync", "disable-dev-shm-usage",
)  # fmt: skip


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def served(bundle, tmp_path):
    """A copy of the bundle with onnxruntime-web in it, and where it is served."""
    folder = shutil.copytree(bundle, tmp_path / "bundle")
    (folder / "javascript/package.json").unlink()
    command = [
        tool("npm"),
        "install",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--prefer-offline",
        "onnxruntime-web@^1.20",
    ]
    done = subprocess.run(command, cwd=folder / "javascript", capture_output=True, timeout=300, check=False)
    if done.returncode:
        cannot_run("onnxruntime-web cannot be had")
    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def browser(tmp_path):
    options, service = webdriver.ChromeOptions(), webdriver.ChromeService(tool("chromedriver"))
    options.binary_location = tool("chromium")
    for argument in (*QUIET, f"user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=service)
    driver.set_page_load_timeout(30)
    yield driver
    driver.quit()


def _told(browser, beginning):
    output = browser.find_element(By.TAG_NAME, "output")
    WebDriverWait(browser, 60).until(lambda _: output.text.startswith(beginning) or "Error" in output.text)
    return output.text


@pytest.mark.slow
def test_the_page_checks_itself_and_takes_a_picture(served, browser, datasets):
    folder, address = served
    photo = sorted((datasets / "bccd/images/test").glob("*.jpg"))[0]
    spec = json.loads((folder / "spec.json").read_text(encoding="utf-8"))
    spec["nms"]["confidence"] = spec["golden"]["nms"]["confidence"]
    (folder / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
    browser.get(f"{address}/javascript/browser.html")
    assert _told(browser, "The golden") == "The golden output is reproduced; choose a picture"
    browser.find_element(By.TAG_NAME, "input").send_keys(str(photo))
    found = Predictor(folder / "plain.onnx", confidence=spec["nms"]["confidence"])(photo)[0]
    assert _told(browser, "Found") == f"Found {len(found)} detections"
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    detections = folder / "golden/detections.json"
    detections.write_text(json.dumps(json.loads(detections.read_text())[1:]))
    browser.refresh()
    assert _told(browser, "The golden") == "The golden output is NOT reproduced"
