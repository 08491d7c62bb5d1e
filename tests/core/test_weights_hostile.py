"""Small files made to hurt: every one of them ends in one short error of ours, at once, in little memory."""

from __future__ import annotations

import copy
import json
import pickle
import struct
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from yolo.core.errors import YoloError
from yolo.core.models.spec import load_spec
from yolo.core.weights.load import load_bundle

ARCHITECTURE = load_spec("v9-t").to_dict()
SMALL = {"0.conv.weight": torch.ones(1)}
HUGE = 10**200


def refused(path: Path) -> str:
    """The one line that loading says, within seconds."""
    start = time.monotonic()
    with pytest.raises(YoloError) as caught:
        load_bundle(path).build(name=str(path))
    assert time.monotonic() - start < 20
    text = str(caught.value)
    assert len(text) < 600 and "\n" not in text
    return text


def ours(**changes: Any) -> dict[str, Any]:
    entry = {
        "format": 1,
        "architecture": copy.deepcopy(ARCHITECTURE),
        "class_names": [str(n) for n in range(80)],
        "image_size": [640, 640],
        "state_dict": SMALL,
    }
    return {"yolo": {**entry, **changes}}


def architecture(**layer: Any) -> dict[str, Any]:
    changed = copy.deepcopy(ARCHITECTURE)
    changed["backbone"][0]["Conv"]["args"].update(layer)
    return changed


def repeated(times: int) -> dict[str, Any]:
    changed = copy.deepcopy(ARCHITECTURE)
    changed["backbone"][4]["RepNCSPELAN"]["args"]["csp_args"] = {"repeat_num": times}
    return changed


def nested(levels: int) -> list[Any]:
    deep: list[Any] = []
    for _ in range(levels):
        deep = [deep]
    return deep


@pytest.mark.parametrize(
    "changes",
    [
        {"extra": 5},
        {"extra": "abc"},
        {"image_size": [HUGE, HUGE]},
        {"image_size": [10**7, 10**7]},
        {"image_size": [True, True]},
        {"class_names": [["a"]]},
        {"class_names": nested(300)},
        {"class_width": HUGE},
        {"architecture": architecture(out_channels=10**18)},
        {"architecture": architecture(kernel_size=10**9)},
        {"architecture": repeated(10**9)},
        {"architecture": {**ARCHITECTURE, "anchor": {"reg_max": 10**30}}},
        {"architecture": {**ARCHITECTURE, "anchor": {"anchor": [[10**400, 1]]}}},
        {"architecture": {**ARCHITECTURE, "backbone": nested(300)}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_entries_of_a_checkpoint_that_no_training_writes(tmp_path: Path, changes: dict[str, Any]) -> None:
    torch.save(ours(**changes), tmp_path / "odd.ckpt")
    refused(tmp_path / "odd.ckpt")


def test_lists_that_share_their_parts_without_end(tmp_path: Path) -> None:
    bomb: list[Any] = ["x"]
    for _ in range(40):
        bomb = [bomb, bomb]
    torch.save(ours(class_names=bomb), tmp_path / "bomb.ckpt")
    assert "more" in refused(tmp_path / "bomb.ckpt")


@pytest.mark.parametrize(
    "state",
    [
        {"22.heads.0.class_conv.2.bias": torch.tensor(1.0)},
        {"1" * 5000 + ".heads.0.class_conv.2.bias": torch.ones(3)},
        {"1" * 5000 + ".cv1.conv.weight": torch.ones(3)},
        {"0.conv.weight": torch.eye(3).to_sparse()},
        {"0.conv.weight": torch.ones(3, device="meta")},
    ],
    ids=["scalar", "digits", "official digits", "sparse", "meta"],
)
def test_odd_state_dicts(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    torch.save(state, tmp_path / "odd.pt")
    refused(tmp_path / "odd.pt")


@pytest.mark.parametrize(
    "described", ["[" * 100_000 + "]" * 100_000, "[]", '{"format": 1' + "0" * 5000 + "}", '{"extra": 5}']
)
def test_odd_metadata_of_safetensors(tmp_path: Path, described: str) -> None:
    save_file(SMALL, tmp_path / "odd.safetensors", metadata={"yolo": described})
    refused(tmp_path / "odd.safetensors")


def test_safetensors_of_a_type_that_cannot_be_compared(tmp_path: Path) -> None:
    header = json.dumps({"0.conv.weight": {"dtype": "F4", "shape": [8], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "odd.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    refused(tmp_path / "odd.safetensors")


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def named(name: str) -> bytes:
    module, _, attribute = name.rpartition(".")
    return f"c{module}\n{attribute}\n".encode()


def archive(path: Path, pickled: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        file.writestr("archive/data.pkl", b"\x80\x02" + pickled + b".")
        file.writestr("archive/version", "3\n")
    return path


def test_a_tensor_that_is_larger_than_its_file(tmp_path: Path) -> None:
    """Made by a call that torch allows, so its numbers are whatever lay in memory."""
    size = b"\x8a\x05" + (5 * 10**8).to_bytes(5, "little")
    tensor = named("torch.FloatTensor") + b"(" + size + b"tR"
    path = archive(tmp_path / "w.pt", b"}" + text("0.conv.weight") + tensor + b"s")
    assert "2000000000 bytes" in refused(path)


def test_old_files_whose_numbers_are_missing(tmp_path: Path) -> None:
    """They would be read from memory that nobody wrote to."""
    count = b"\x8a\x05" + (5 * 10**8).to_bytes(5, "little")
    storage = b"(" + text("storage") + named("torch.FloatStorage") + text("0") + text("cpu") + count + b"NtQ"
    call = b"(" + storage + b"K\x00(" + count + b"t(K\x01t\x89}tR"
    body = b"\x80\x02}" + text("0.conv.weight") + named("torch._utils._rebuild_tensor_v2") + call + b"s."
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    head = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, system)]
    (tmp_path / "w.pt").write_bytes(b"".join(head) + body + pickle.dumps([], 2))
    refused(tmp_path / "w.pt")


@pytest.mark.parametrize("attribute", ["get", "items", "keys"])
def test_a_dictionary_with_methods_of_its_own(tmp_path: Path, attribute: str) -> None:
    shadowed = named("collections.OrderedDict") + b")R}" + text(attribute) + b"K\x05sb"
    inside = text("0.conv.weight") + named("torch.FloatTensor") + b"(K\x01tRs"
    refused(archive(tmp_path / "w.pt", shadowed + inside))
    refused(archive(tmp_path / "w.pt", b"}" + text("model") + shadowed + inside + b"s"))


def test_a_name_that_would_be_searched_for_ever(tmp_path: Path) -> None:
    refused(archive(tmp_path / "w.pt", b"}" + text("x") + text("cmodels" + ".cmodels" * 50_000) + b"s"))
