"""Model files: the language, and one clear line for every mistake."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from yolo.core.errors import UsageError
from yolo.core.models import build_model, layer_table, load_spec, parse_spec, zoo_names
from yolo.core.models.class_width import ClassWidth
from yolo.core.models.layers import INPUT, SpecError
from yolo.core.models.plan import make_plan
from yolo.core.models.spec import parse_text

SMALL = """\
name: small
backbone:
  - Conv: {args: {out_channels: 8, kernel_size: 3, stride: 2}, source: 0}
  - Conv: {args: {out_channels: 16, kernel_size: 3, stride: 2}, tags: B2}
  - ELAN: {args: {out_channels: 16, part_channels: 16}}
  - ADown: {args: {out_channels: 32}, tags: B3}
neck:
  - UpSample: {args: {scale_factor: 2}}
  - Concat: {source: [-1, B2], tags: N2}
detection:
  - MultiheadDetection: {source: [N2, B3], tags: Main}
auxiliary:
  - CBLinear: {args: {out_channels: [16, 32]}, source: B3, tags: R3}
  - CBFuse: {args: {index: [0]}, source: [R3, B2], tags: A2}
  - MultiheadDetection: {source: [A2, B3], tags: AUX}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "my.yaml"
    path.write_text(text)
    return path


def test_sources_are_resolved(tmp_path: Path) -> None:
    spec = load_spec(write(tmp_path, SMALL))
    assert [layer.sources for layer in spec] == [(INPUT,), (0,), (1,), (2,), (3,), (4, 1), (5, 3), (3,), (7, 1), (8, 3)]
    assert [layer.section for layer in spec][4:8] == ["neck", "neck", "detection", "auxiliary"]
    assert build_model(spec, 3).strides == (4, 8)


def test_numbers_count_from_one_and_negative_ones_back() -> None:
    spec = parse_spec(
        {
            "backbone": [
                {"Conv": {"args": {"out_channels": 8, "stride": 2}}},
                "Pool",
                {"Concat": {"source": [1, -2]}},
                {"Conv": {"args": {"out_channels": 8}, "source": [2]}},
            ],
            "detection": [{"MultiheadDetection": {"source": [3, 4]}}],
        },
        "numbers",
    )
    assert [layer.sources for layer in spec] == [(INPUT,), (0,), (0, 0), (1,), (2, 3)]
    assert spec.name == "numbers"


def test_published_wrapper_is_read() -> None:
    """Sections below ``model``, ``anchor`` beside it, ``output`` at a head, an empty ``auxiliary``."""
    spec = parse_spec(
        {
            "name": "x",
            "anchor": {"reg_max": 8, "strides": [2]},
            "model": {
                "backbone": [{"Conv": {"args": {"out_channels": 8, "kernel_size": 3, "stride": 2}, "source": 0}}],
                "detection": [{"MultiheadDetection": {"source": [-1], "tags": "Main", "output": True}}],
                "auxiliary": {},
            },
        }
    )
    assert spec.reg_max == 8
    assert layer_table(spec, (64, 32), num_classes=3)[-1].shapes == ((3 + 32, 16, 32),)


@pytest.mark.parametrize("name", zoo_names())
def test_plain_data_round_trip(name: str) -> None:
    spec = load_spec(name)
    again = parse_spec(spec.to_dict(), "checkpoint")
    assert again == spec and again.to_dict() == spec.to_dict()
    assert parse_spec(spec.without_auxiliary().to_dict()) == spec.without_auxiliary()
    adopted = spec.with_class_width(128)
    assert parse_spec(adopted.to_dict()).class_width == ClassWidth.fixed(128) != spec.class_width


MISTAKES = {
    "unknown block": ("  - ELAN:", "  - ELAM:", ["my.yaml:5: backbone layer 2 (ELAM)", "no block 'ELAM'", "'ELAN'"]),
    "unknown tag": ("[-1, B2]", "[-1, B1]", ["my.yaml:9: neck layer 5 (Concat)", "no tag 'B1'", "B2, B3"]),
    "tag of a later layer": ("[-1, B2]", "[-1, Main]", ["layer 5 (Concat)", "'Main'", "before"]),
    "number of a later layer": ("[-1, B2]", "[-1, 7]", ["layer 5 (Concat)", "source 7", "before"]),
    "own number": ("[-1, B2]", "[-1, 6]", ["layer 5 (Concat)", "source 6", "before"]),
    "before the image": ("[-1, B2]", "[-1, -9]", ["layer 5 (Concat)", "-9", "at most -6"]),
    "source of a wrong kind": ("[-1, B2]", "[-1, 1.5]", ["layer 5 (Concat)", "1.5"]),
    "no sources": ("source: [-1, B2]", "source: []", ["layer 5 (Concat)", "empty"]),
    "duplicate tag": ("tags: N2", "tags: B2", ["layer 5 (Concat)", "'B2'", "layer 1"]),
    "sizes that differ": ("[-1, B2]", "[B3, B2]", ["layer 5 (Concat)", "differ in size", "32x", "16x"]),
    "odd channels": ("part_channels: 16", "part_channels: 15", ["layer 2 (ELAN)", "15", "even"]),
    "odd channels into ADown": ("{out_channels: 16, part", "{out_channels: 17, part", ["layer 3 (ADown)", "17", "odd"]),
    "odd channels out of ADown": ("out_channels: 32}, t", "out_channels: 33}, t", ["layer 3 (ADown)", "33", "odd"]),
    "fused channels": ("index: [0]", "index: [1]", ["layer 8 (CBFuse)", "32", "16"]),
    "index beyond the list": ("index: [0]", "index: [2]", ["layer 8 (CBFuse)", "index[0] is 2", "2 maps"]),
    "index of another length": ("index: [0]", "index: [0, 0]", ["layer 8 (CBFuse)", "2 entries", "1 source"]),
    "fusing a plain map": ("[R3, B2]", "[B3, B2]", ["layer 8 (CBFuse)", "CBLinear"]),
    "reading a list": ("[A2, B3]", "[A2, R3]", ["layer 9 (MultiheadDetection)", "list of maps"]),
    "two sources": ("source: B3, tags: R3", "source: [B3, B2], tags: R3", ["layer 7 (CBLinear)", "one source"]),
    "unknown argument": (
        "stride: 2}, source: 0",
        "strides: 2}, source: 0",
        ["layer 0 (Conv)", "'strides'", "'stride'"],
    ),
    "missing argument": ("{out_channels: 32}", "{}", ["layer 3 (ADown)", "'out_channels' is missing"]),
    "text for a number": ("{out_channels: 32}", '{out_channels: "32"}', ["layer 3 (ADown)", "whole number", "'32'"]),
    "fraction": ("{out_channels: 32}", "{out_channels: 32.0}", ["layer 3 (ADown)", "whole number", "32.0"]),
    "boolean": ("{out_channels: 32}", "{out_channels: true}", ["layer 3 (ADown)", "whole number"]),
    "zero": ("{out_channels: 32}", "{out_channels: 0}", ["layer 3 (ADown)", "at least 1"]),
    "number for a list": ("out_channels: [16, 32]", "out_channels: 16", ["layer 7 (CBLinear)", "must be a list"]),
    "supplied argument": ("{out_channels: 32}", "{in_channels: 16}", ["layer 3 (ADown)", "'in_channels'", "follows"]),
    "arguments as a list": ("args: {scale_factor: 2}", "args: [2]", ["layer 4 (UpSample)", "args", "mapping"]),
    "unknown mode": ("scale_factor: 2", "mode: cubic", ["layer 4 (UpSample)", "nearest", "cubic"]),
    "unknown key": ("source: [-1, B2]", "sources: [-1, B2]", ["layer 5 (Concat)", "'sources'", "'source'"]),
    "window too large": (
        "kernel_size: 3, stride: 2}, source",
        "kernel_size: 3001, padding: 0}, source",
        ["layer 0", "fit"],
    ),
    "groups": ("stride: 2}, tags: B2", "stride: 2, groups: 3}, tags: B2", ["layer 1 (Conv)", "groups", "8 input"]),
    "section name": ("neck:", "nek:", ["my.yaml", "'nek'", "'neck'"]),
    "no detection section": ("detection:", "head:", ["my.yaml", "'detection' is missing"]),
    "no head": (
        "MultiheadDetection: {source: [N2, B3]",
        "Concat: {source: [N2]",
        ["no detection head", "MultiheadDetection"],
    ),
    "two heads": (
        "detection:\n",
        "detection:\n  - MultiheadDetection: {source: [N2, B3]}\n",
        ["layer 7 (MultiheadDetection)", "second head", "layer 6"],
    ),
    "head of other strides": ("[A2, B3]", "[A2, A2]", ["layer 9", "strides (4, 4)", "(4, 8)"]),
    "coarse before fine": ("[N2, B3]", "[B3, N2]", ["layer 6", "finest"]),
    "layer that nobody reads": (
        "detection:",
        "  - Pool: {source: B3}\ndetection:",
        ["layer 6 (Pool)", "no head depends"],
    ),
    "duplicate section": ("neck:", "backbone:", ["my.yaml:7", "'backbone' is given twice"]),
    "duplicate key": (
        "{scale_factor: 2}",
        "{scale_factor: 2, scale_factor: 3}",
        ["my.yaml:8", "'scale_factor'", "twice"],
    ),
    "bad YAML": ("{scale_factor: 2}", "{scale_factor: 2", ["my.yaml:9", "not valid YAML"]),
    "tab": ("  - UpSample", "\t- UpSample", ["my.yaml:8", "not valid YAML"]),
    "python object": ("name: small", "name: !!python/object:os.system {}", ["my.yaml:1", "not valid YAML"]),
    "not a list": ("neck:\n", "neck: 5\nhead:\n", ["my.yaml: neck", "list of layers"]),
    "two blocks in one item": ("  - Concat: {", "    Pool: {}\n    Concat: {", ["layer 4", "one block"]),
    "class width": ("name: small", "class_width: wide", ["my.yaml: class_width", "'wide'"]),
    "strides": ("name: small", "anchor: {strides: [8, 16]}", ["layer 6", "(4, 8)", "(8, 16)"]),
    "bins": ("name: small", "anchor: {reg_max: 1}", ["my.yaml: anchor: reg_max"]),
    "auxiliary too early": ("backbone:", "auxiliary:\n  - Pool\nbackbone:", ["auxiliary", "twice"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_name_file_and_layer(mistake: str, tmp_path: Path) -> None:
    old, new, expected = MISTAKES[mistake]
    assert old in SMALL
    path = write(tmp_path, SMALL.replace(old, new, 1))
    with pytest.raises(UsageError) as caught:
        build_model(path, 3)
    message = str(caught.value)
    assert "\n" not in message and "my.yaml" in message, message
    assert all(part in message for part in expected), message


def test_layers_of_the_auxiliary_head_belong_to_its_section() -> None:
    text = SMALL.replace("detection:", "  - ADown: {args: {out_channels: 32}, source: B2, tags: X}\ndetection:")
    with pytest.raises(SpecError, match=r"neck layer 6 \(ADown\): only the auxiliary head depends on this layer"):
        make_plan(parse_text(text.replace("[A2, B3]", "[A2, X]"), "my.yaml"))


def test_auxiliary_comes_last() -> None:
    sections = {"auxiliary": ["Pool"], "backbone": ["Pool"], "detection": ["Pool"]}
    with pytest.raises(SpecError, match="'auxiliary' must come last"):
        parse_spec(sections, "early.yaml")


@pytest.mark.parametrize(
    ("name", "parts"),
    [("v9-x", ["no model 'v9-x'", "Did you mean"]), ("nothing.yaml", ["'nothing.yaml' does not exist", "v9-t"])],
)
def test_unknown_model(name: str, parts: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        load_spec(name)
    assert all(part in str(caught.value) for part in parts)


@pytest.mark.parametrize("content", [b"", b"[]", b"just text", b"\xff\xfe\x00", b"a: &a [*a]", b"a: b: c"])
def test_files_that_are_no_model(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    with pytest.raises(SpecError, match=r"broken\.yaml"):
        load_spec(path)


def test_a_zero_class_network_is_refused() -> None:
    with pytest.raises(UsageError, match="at least 1"):
        build_model("v9-t", 0)


def test_class_width_rules() -> None:
    published, code = load_spec("v9-t").class_width, load_spec("v9-s").class_width
    assert [published.channels(64, n) for n in (3, 80, 100, 365)] == [64, 80, 100, 100]
    assert [code.channels(64, n) for n in (3, 40, 80)] == [64, 80, 128]
    assert ClassWidth.fixed(128).channels(64, 3) == 128 and ClassWidth.fixed(80).channels(256, 3) == 256
    assert ClassWidth.parse(ClassWidth.fixed(96).to_plain()) == ClassWidth.fixed(96)
    with pytest.raises(UsageError, match="class-branch width"):
        ClassWidth.parse({"per_class": 2})


def test_importing_the_language_loads_no_torch() -> None:
    code = "import sys, yolo.core.models.spec as s; s.load_spec('v9-e'); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_example_of_the_manual_builds() -> None:
    manual = Path(__file__).parents[2] / "docs" / "how-to" / "custom-model.md"
    example = manual.read_text().split("```yaml\n")[1].split("```")[0]
    assert build_model(parse_text(example, "my.yaml"), 3).strides == (4, 8)
