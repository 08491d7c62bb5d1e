"""The catalogue of published networks."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from yolo.core.models.spec import zoo_names
from yolo.core.weights.published import Published, catalogue, published

ENTRIES = catalogue()
GOLDEN = {"v9-t": "v9-t-pub", "v7": "v7-official", "gelan-t": "v9-t-pub"} | {f"gelan-{s}": f"v9-{s}" for s in "smce"}
# Average precision in percent and the rounded sizes, as the official tables have them.
TABLE = {
    "v9-t": (38.3, 53.1, 41.3, 2.0, 7.7),
    "v9-s": (46.8, 63.4, 50.7, 7.1, 26.4),
    "v9-m": (51.4, 68.1, 56.1, 20.0, 76.3),
    "v9-c": (53.0, 70.2, 57.8, 25.3, 102.1),
    "v9-e": (55.6, 72.8, 60.6, 57.3, 189.0),
    "gelan-s": (46.7, 63.3, 50.8, 7.1, 26.4),
    "gelan-m": (51.1, 68.0, 55.8, 20.0, 76.3),
    "gelan-c": (52.3, 69.8, 57.1, 25.3, 102.1),
    "gelan-e": (53.7, 71.0, 58.5, 57.3, 189.0),
}
NETWORKS = json.loads((Path(__file__).parents[1] / "golden" / "networks.json").read_text(encoding="utf-8"))


def test_every_network_of_the_zoo_has_an_entry_in_its_order():
    names = [entry.name for entry in ENTRIES]
    assert [name for name in names if name in zoo_names()] == list(zoo_names())
    assert published("v9-c") in ENTRIES and published("v9-x") is None


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_an_entry_is_well_formed(entry):
    for field in fields(Published):
        value = getattr(entry, field.name)
        kinds = {"str": str, "int": int, "float": float}[str(field.type).removesuffix(" | None")]
        assert isinstance(value, kinds) or (value is None and "None" in str(field.type)), field.name
    assert re.fullmatch(r"arXiv:\d{4}\.\d{5}", entry.paper)
    assert re.fullmatch(r"[a-z0-9-]+\.pt", entry.file)
    if entry.url is not None:
        assert urlsplit(entry.url).scheme == "https" and entry.url.endswith(f"/{entry.file}")
        assert entry.licence and entry.source  # nobody fetches weights without learning their licence
    assert entry.sha256 is None or re.fullmatch("[0-9a-f]{64}", entry.sha256)
    assert entry.name in entry.licence_line and "licence" in entry.licence_line


def test_no_two_networks_share_a_file():
    assert len({entry.file for entry in ENTRIES}) == len(ENTRIES)


@pytest.mark.parametrize("name", TABLE)
def test_figures_are_those_of_the_official_table(name):
    entry = published(name)
    *precision, parameters, gflops = TABLE[name]
    assert [entry.ap, entry.ap50, entry.ap75] == precision
    assert round(entry.parameters_m, 1) == parameters
    assert entry.gflops == pytest.approx(gflops, abs=0.055)  # 188.946 was published as 189.0


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_sizes_are_those_of_the_reference_networks(entry):
    golden = NETWORKS.get(GOLDEN.get(entry.name, entry.name))
    if golden is None:
        pytest.skip(f"tests/golden/networks.json has no {entry.name}")
    parameters, flops = golden["counts"]["fused"]
    assert (entry.parameters, entry.gflops) == (parameters, round(flops / 1e9, 3))
