"""Documentation that points at things points at things that exist, and covers what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("p*/*/*.md"), *ROOT.glob("benchmarks/*.md")])
LINK = re.compile(r"\]\(([^)\s#]+)[^)]*\)")
PARTS = ("core", "cli", "data", "training", "export")


def _families(part: str) -> set[str]:
    """The modules and folders right below `yolo.<part>` that hold something of their own."""
    folder = next(ROOT.glob(f"packages/*/src/yolo/{part}"))
    modules = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}
    return {f"yolo.{part}.{name}" for name in modules - {"__init__", "__main__", "version", "plugin"}}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = [target for target in LINK.findall(text) if "://" not in target and not target.startswith("mailto:")]
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_every_page_is_in_the_navigation():
    def files(node):
        if isinstance(node, str):
            return [node]
        return [file for child in (node.values() if isinstance(node, dict) else node) for file in files(child)]

    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    written = {page.relative_to(ROOT / "docs").as_posix() for page in ROOT.glob("docs/**/*.md")}
    assert set(files(config["nav"])) == written


def test_every_decision_is_in_the_list():
    listed = (ROOT / "docs/adr/index.md").read_text(encoding="utf-8")
    decisions = sorted(page.name for page in ROOT.glob("docs/adr/[0-9]*.md"))
    assert [name for name in decisions if f"]({name})" not in listed] == []
    numbers = [name[:4] for name in decisions]
    assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize("part", PARTS)
def test_provenance_has_a_row_for_every_family(part):
    rows = (ROOT / "docs/provenance.md").read_text(encoding="utf-8").splitlines()
    named = {name for row in rows if row.startswith("| `") for name in re.findall(r"`([\w.]+)`", row.split("|")[1])}
    ours = {name for name in named if name.startswith(f"yolo.{part}.")}
    assert _families(part) - named == set(), "say what it was written from"
    assert ours - _families(part) == set(), "there is no such module"


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "README.md"])
def test_paths_in_the_text_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    paths = re.findall(r"`((?:packages|plugins|tests|scripts|docs|benchmarks)/[\w./-]*)`", text)
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_two_commands_of_the_readme():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "pip install uv && uv run yolo fit --config quickstart" in text
    assert "\nuv run pytest " in text
    assert "uv run pytest" in (ROOT / ".ci/run").read_text(encoding="utf-8")
