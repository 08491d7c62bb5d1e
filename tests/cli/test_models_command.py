"""``yolo models``: the list, the layers of one network, and published weights."""

from __future__ import annotations

import functools
import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from yolo.core.models.spec import zoo_names
from yolo.core.weights.published import published

Run = Callable[..., Any]


def lines(text: str) -> list[list[str]]:
    """Cells of a piped table: two or more blanks stand between columns."""
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in text.splitlines()]


def test_every_network_is_listed(yolo: Run):
    result = yolo("models")
    assert result.code == 0 and "not measured here" in result.err
    head, *rows = lines(result.out)
    assert head == ["Model", "Family", "Parameters", "GFLOPs", "AP", "AP50", "AP75", "Licence of the weights"]
    assert [row[0] for row in rows] == list(zoo_names()) and all(len(row) == len(head) for row in rows)
    assert ["v9-c", "YOLOv9", "25.3 M", "102.1", "53.0", "70.2", "57.8", "GPL-3.0"] in rows
    wide = {len(line) for line in result.out.splitlines()}
    assert max(wide) <= 100, "fits a terminal"


def test_the_list_as_json(yolo: Run):
    entries = json.loads(yolo("models", "--json").out)
    assert [entry["name"] for entry in entries] == list(zoo_names())
    first = entries[0]
    assert first["family"] == "YOLOv9" and first["ap"] == 38.3 and first["parameters"] == 2_001_872
    assert first["url"].startswith("https://") and first["licence"]
    wrong = yolo("models", "--json", "show", "v9-t")
    assert wrong.code == 2 and "yolo models show ... --json" in wrong.err


@pytest.mark.parametrize("args", ["models", "models --json", "models --help", "checkpoint --help"])
def test_listing_imports_no_torch(args: str):
    code = (
        f"import sys; from yolo.cli.main import main; main({args.split()!r});"
        "print([m for m in ('torch', 'numpy', 'cv2') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip().splitlines()[-1] == "[]"


def test_the_layers_of_a_network(yolo: Run, reference: Path):
    result = yolo("models", "show", "v9-c")
    assert result.code == 0, result.err
    table = lines(result.out)
    assert table[0] == ["Layer", "Tag", "Section", "Block", "From", "Arguments", "Output", "Parameters"]
    rows = {int(row[0]): row for row in table[1:] if row and row[0].isdigit()}
    assert len(rows) == 39
    assert rows[0] == ["0", "backbone", "Conv", "image", "kernel_size 3, stride 2", "64x320x320", "1,856"]
    assert rows[11] == ["11", "neck", "Concat", "10, 6", "1024x40x40"]
    assert rows[22][-2] == "144x80x80 144x40x40 144x20x20" and rows[22][1] == "Main"
    counts = json.loads((reference / "v9-c/counts.json").read_text())
    assert ["v9-c, 80 classes, 640x640", "Parameters", "GFLOPs"] in table
    assert ["in training", "51,182,144", "238.65"] in table and "51182144" in json.dumps(counts)
    assert ["for inference", "25,498,784", "102.82"] in table and ["fused", "25,288,800", "102.14"] in table


def test_size_and_classes(yolo: Run):
    found = json.loads(yolo("models", "show", "v9-t", "--size", "320x192", "--classes", "3", "--json").out)
    assert (found["name"], found["classes"], found["image_size"]) == ("v9-t", 3, [320, 192])
    assert found["strides"] == [8, 16, 32]
    shapes = {layer["index"]: layer["shapes"] for layer in found["layers"]}
    assert shapes[0] == [[16, 96, 160]] and shapes[22] == [[67, 24, 40], [67, 12, 20], [67, 6, 10]]
    assert sum(layer["parameters"] for layer in found["layers"]) == found["sizes"]["in training"]["parameters"]
    wrong = yolo("models", "show", "v9-t", "--size", "100")
    assert wrong.code == 2 and "multiple of 32" in wrong.err
    unknown = yolo("models", "show", "v9c")
    assert unknown.code == 2 and "v9-c" in unknown.err


def test_a_file_of_layers_and_a_file_of_weights(yolo: Run, tmp_path: Path):
    from yolo.core.models import build_model, load_spec
    from yolo.core.weights.bundle import BUNDLE_KEY, ModelBundle

    (tmp_path / "mine.yaml").write_text(json.dumps({**load_spec("gelan-t").to_dict(), "name": "mine"}))
    assert lines(yolo("models", "show", str(tmp_path / "mine.yaml")).out)[-1][0] == "fused"
    network = build_model("gelan-t", 2)
    bundle = ModelBundle(network.spec.to_dict(), network.state_dict(), ("a", "b"), (96, 64))
    torch.save({BUNDLE_KEY: bundle.to_dict()}, tmp_path / "best.ckpt")
    found = json.loads(yolo("models", "show", str(tmp_path / "best.ckpt"), "--json").out)
    assert (found["name"], found["classes"], found["image_size"]) == ("gelan-t", 2, [96, 64])
    wrong = yolo("models", "show", str(tmp_path / "best.ckpt"), "--classes", "3")
    assert wrong.code == 2 and "--classes" in wrong.err
    missing = yolo("models", "show", str(tmp_path / "other.ckpt"))
    assert missing.code == 1 and "does not exist" in missing.err


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A loopback server of a folder with one file."""
    folder = tmp_path / "served"
    folder.mkdir()
    torch.save({"0.conv.weight": torch.zeros(2)}, folder / published("v9-t").file)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    http_server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=http_server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{http_server.server_address[1]}"
    http_server.shutdown()
    http_server.server_close()


def test_a_download_prints_path_and_licence(yolo: Run, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("YOLO_HOME", str(tmp_path / "home"))
    result = yolo("models", "download", "v9-t", "--mirror", server)
    assert result.code == 0, result.err
    path = Path(result.out.strip())
    assert path.is_file() and path.is_relative_to(tmp_path / "home") and path.name == published("v9-t").file
    assert "GPL-3.0" in result.err, "the licence is shown"
    again = yolo("models", "download", "v9-t", "--mirror", "http://127.0.0.1:9")
    assert again.code == 0 and again.out == result.out, "it is there already"


def test_a_download_that_cannot_be(yolo: Run):
    unknown = yolo("models", "download", "v9-x")
    assert unknown.code == 2 and len(unknown.err.splitlines()) == 1 and "v9-" in unknown.err


def test_progress_of_a_download(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    from yolo.cli import byte_bar

    monkeypatch.setattr(byte_bar, "_PLAIN_SECONDS", 0)
    with byte_bar.byte_bar("Downloading v9-c") as report:
        report(1_500_000, 3_000_000)
        report(2_000_000, None)
    out, err = capsys.readouterr()
    assert out == "" and err.splitlines() == [
        "Downloading v9-c: 1.5 MB of 3.0 MB",
        "Downloading v9-c: 2.0 MB of an unknown size",
    ]
    monkeypatch.setattr(byte_bar, "is_terminal", lambda _stream: True)
    with byte_bar.byte_bar("Downloading v9-c") as report:
        report(1_500_000, None)
        report(3_000_000, 3_000_000)


@pytest.mark.slow
@pytest.mark.parametrize("name", zoo_names())
def test_the_list_says_what_is_measured(name: str):
    from yolo.cli.commands.model_table import describe

    facts, sizes = published(name), describe(name, size=None, classes=None).sizes["fused"]
    assert facts.parameters == sizes.parameters and facts.gflops == pytest.approx(sizes.flops / 1e9, abs=0.006)
