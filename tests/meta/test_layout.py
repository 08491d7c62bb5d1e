"""The shape of the workspace: namespace, metadata, arrows between members, and files that one person can read."""

from __future__ import annotations

import ast
import importlib.metadata
import statistics
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
MEMBERS = sorted(
    path.parent for pattern in ("packages/*", "plugins/*") for path in ROOT.glob(pattern + "/pyproject.toml")
)
SOURCES = sorted(path for member in MEMBERS for path in (member / "src").rglob("*.py"))
PARTS = {
    "yolo-core": "yolo/core",
    "yolo-cli": "yolo/cli",
    "yolo-data": "yolo/data",
    "yolo-train": "yolo/training",
    "yolo-export": "yolo/export",
    "yolo-rain": "yolo_rain",
    "yolo-ray": "yolo_ray",
}
per_member = pytest.mark.parametrize("member", MEMBERS, ids=lambda path: path.name)


def _project(member: Path) -> dict:
    return tomllib.loads((member / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def _version(member: Path) -> str:
    project = _project(member)
    if "version" in project:
        return project["version"]
    namespace: dict[str, str] = {}
    exec((member / "src" / PARTS[member.name] / "version.py").read_text(encoding="utf-8"), namespace)
    return namespace["__version__"]


def _requirements(member: Path, *, extras: bool) -> list[Requirement]:
    project = _project(member)
    texts = list(project["dependencies"])
    if extras:
        texts += [text for extra in project.get("optional-dependencies", {}).values() for text in extra]
    return [Requirement(text) for text in texts]


def test_the_members_are_the_known_ones():
    assert {member.name for member in MEMBERS} == set(PARTS)


def test_yolo_is_a_namespace_without_an_init():
    assert list(ROOT.glob("p*/*/src/yolo/__init__.py")) == []


@per_member
def test_a_member_holds_one_import_package_and_its_papers(member):
    part = member / "src" / PARTS[member.name]
    for path in (member / "README.md", member / "CHANGELOG.md", member / "LICENSE"):
        assert path.stat().st_size > 0, path
    assert (part / "__init__.py").is_file()
    assert (part / "py.typed").is_file()
    tops = {path.name for path in (member / "src").iterdir() if path.name != "__pycache__"}
    assert tops == {PARTS[member.name].split("/")[0]}
    if "/" in PARTS[member.name]:
        entry = {"__main__.py"} if member.name == "yolo-cli" else set()  # `python -m yolo`
        found = {path.name for path in (member / "src/yolo").iterdir() if path.name != "__pycache__"}
        assert found == {part.name} | entry


@per_member
def test_metadata_is_what_a_package_page_needs(member):
    project = _project(member)
    assert project["name"] == member.name
    assert project["license"] == "MIT"
    assert project["requires-python"] == ">=3.11"
    assert project["readme"] == "README.md"
    assert project["description"]
    assert project["classifiers"]


@per_member
def test_ranges_between_members_are_real(member):
    siblings = {path.name: path for path in MEMBERS}
    for requirement in _requirements(member, extras=True):
        if requirement.name in siblings:
            operators = {specifier.operator for specifier in requirement.specifier}
            assert operators == {">=", "<"}, f"{member.name} asks for {requirement}"
            version = _version(siblings[requirement.name])
            assert requirement.specifier.contains(version), f"{member.name} asks for {requirement}, we have {version}"


@per_member
def test_no_upper_bound_that_only_the_tflite_pins_need(member):
    allowed = {"jsonargparse", "pyturbojpeg", "ray", *PARTS}
    for requirement in _requirements(member, extras=False):
        upper = [specifier for specifier in requirement.specifier if specifier.operator in ("<", "<=", "==", "~=")]
        assert not upper or requirement.name.lower() in allowed, requirement


@per_member
def test_entry_points_resolve(member):
    project = _project(member)
    targets = [*project.get("scripts", {}).values(), *project.get("entry-points", {}).get("yolo.plugins", {}).values()]
    for target in targets:
        module = member / "src" / Path(*target.partition(":")[0].split("."))
        assert module.with_suffix(".py").is_file() or (module / "__init__.py").is_file(), target


def _imported(path: Path) -> set[tuple[str, str]]:
    """Return (top module, dotted module) of every absolute import, at the top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module)
    return {(name.split(".")[0], name) for name in found}


@per_member
def test_every_import_is_covered_by_a_declared_dependency(member):
    closure: set[str] = set()
    queue = [(member, True)]
    siblings = {path.name: path for path in MEMBERS}
    while queue:
        current, extras = queue.pop()
        for requirement in _requirements(current, extras=extras):
            name = canonicalize_name(requirement.name)
            if name not in closure:
                closure.add(name)
                queue += [(siblings[name], False)] if name in siblings else []
    kit = closure | {"pytest", "hypothesis", "click"}  # a conformance kit is for tests, which have these
    providers = importlib.metadata.packages_distributions()
    own = PARTS[member.name].replace("/", ".")
    for path in sorted((member / "src").rglob("*.py")):
        allowed = kit if "testing" in path.parts else closure
        shipped = {other.stem for other in path.parent.glob("*.py")} if "runners" in path.parts else set()
        for top, dotted in _imported(path):
            if top in shipped:  # a program that a bundle holds, and what lies beside it
                continue
            if top in sys.stdlib_module_names or dotted == own or dotted.startswith(own + "."):
                continue
            if top == "yolo":
                names = {name for name, part in PARTS.items() if dotted.startswith(part.replace("/", "."))}
                names = names or closure  # `import yolo` or `from yolo import core`
            else:
                names = {canonicalize_name(name) for name in providers.get(top, [top])}
            assert names & allowed, f"{path.relative_to(ROOT)} imports {dotted}, which {member.name} does not require"


def test_source_files_stay_small():
    lengths = {path.relative_to(ROOT): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    longest = {str(path): lines for path, lines in lengths.items() if lines > 400}
    assert longest == {}, "a file is one idea: split these"
    substantial = [lines for path, lines in lengths.items() if path.name not in ("__init__.py", "version.py")]
    assert statistics.median(substantial) <= 150


def test_no_drawer_for_odds_and_ends():
    assert [path for path in SOURCES if path.stem in ("utils", "util", "common", "misc", "helpers")] == []


def test_every_source_file_compiles_without_warnings(recwarn):
    for path in SOURCES:
        compile(path.read_text(encoding="utf-8"), str(path), "exec", dont_inherit=True)
    assert [str(warning.message) for warning in recwarn] == []
