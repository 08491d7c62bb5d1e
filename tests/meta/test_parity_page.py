"""The commands of the parity page exist, and the one for the published numbers does what the page says."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/reference/parity.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(line)
    for block in re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL)
    for line in block.replace("\\\n", "").splitlines()
]


@pytest.mark.parametrize("command", [c for c in COMMANDS if c[:3] == ["uv", "run", "pytest"]], ids=" ".join)
def test_rungs_name_tests_that_exist(command: list[str]) -> None:
    arguments = command[3:]
    wanted = []
    if "-k" in arguments:
        at = arguments.index("-k")
        wanted = arguments[at + 1].split(" or ")
        del arguments[at : at + 2]
    if "-m" in arguments:
        at = arguments.index("-m")
        del arguments[at : at + 2]
    assert arguments
    text = "".join((ROOT / path).read_text(encoding="utf-8") for path in arguments)
    names = re.findall(r"^def (test_\w+)", text, flags=re.MULTILINE)
    assert [word for word in wanted if not any(word in name for name in names)] == []


def test_the_command_for_the_published_numbers(
    datasets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a few pictures, laid out like COCO, with small random weights of 80 classes."""
    import torch

    from yolo.core.models import build_model
    from yolo.training.commands.validate import validate

    (command,) = (c for c in COMMANDS if c[:4] == ["uv", "run", "yolo", "validate"])
    arguments = dict(zip(command[4::2], command[5::2], strict=True))
    assert arguments.keys() == {
        *("--checkpoint", "--protocol", "--size"),
        *("--data.format", "--data.root", "--data.val_images", "--data.val_ann"),
    }
    source, coco = datasets / "tiny-coco", tmp_path / arguments["--data.root"]
    (coco / arguments["--data.val_ann"]).parent.mkdir(parents=True)
    shutil.copyfile(source / "annotations/instances_val.json", coco / arguments["--data.val_ann"])
    shutil.copytree(source / "images/val", coco / arguments["--data.val_images"])
    torch.save(build_model("v9-t").state_dict(), tmp_path / "weights.pt")
    arguments |= {"--checkpoint": "weights.pt", "--size": "32", "--workers": "0", "--device": "cpu"}
    monkeypatch.chdir(tmp_path)
    assert validate([part for pair in arguments.items() for part in pair]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("conf 0.001, NMS IoU 0.7, max 300" in line for line in lines)
    printed = [re.sub(r" +", " ", line).rsplit(" ", 1)[0] for line in lines if line.startswith(("AP ", "AR "))]
    assert printed == [
        *("AP IoU 0.50:0.95 all 100", "AP IoU 0.50 all 100", "AP IoU 0.75 all 100"),
        *(f"AP IoU 0.50:0.95 {size} 100" for size in ("small", "medium", "large")),
        *(f"AR IoU 0.50:0.95 all {most}" for most in (1, 10, 100)),
        *(f"AR IoU 0.50:0.95 {size} 100" for size in ("small", "medium", "large")),
    ]


def test_the_page_holds_the_published_numbers_of_v9_c() -> None:
    rows = dict(re.findall(r"^\| (A[PR]) \|(.*)\|$", PAGE, flags=re.MULTILINE))
    assert [float(cell) for cell in rows["AP"].split("|")] == [0.530, 0.702, 0.578, 0.362, 0.585, 0.693]
    assert [float(cell) for cell in rows["AR"].split("|")] == [0.392, 0.652, 0.702, 0.541, 0.760, 0.844]
