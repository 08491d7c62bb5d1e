"""Keep `uv.lock` free of registry addresses: versions are committed, download links are not.

    python scripts/lock.py            bring uv.lock up to date, then strip it; options of `uv lock` may follow,
                                      e.g. --upgrade or --upgrade-package torch
    python scripts/lock.py --check    fail when the lock to be committed is not stripped, or is stale (CI)
    python scripts/lock.py --clean    git clean filter: a lock on standard input, the stripped one on standard output

A stripped lock still says which version of every package belongs together. uv takes those versions as its preferences
the first time it works in a clone, finds the files in whichever registry the machine uses, and completes the file in
the working tree. The clean filter (CONTRIBUTING.md) makes git compare and commit the stripped text, so that such a
tree shows no change. The reasons are in docs/adr/0002-a-lock-without-addresses.md.

Only the standard library is needed, so that git can run the filter before anything is installed.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLACEHOLDER = "https://index.invalid/simple"

ROUNDS = 4

_REGISTRY = re.compile(r'\bregistry = "[^"]*"')
_URL = re.compile(r'[a-z+]+://[^\s"/]+')


def strip(text: str) -> str:
    """Return a lock without files, registry addresses and copies of the members' requirements. Idempotent."""
    lines = [_REGISTRY.sub(f'registry = "{PLACEHOLDER}"', line) for line in _kept_lines(text)]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n") + "\n"


def _kept_lines(text: str) -> Iterator[str]:
    """Yield the lines outside `sdist`, `wheels` and the `[package.metadata]` tables, which uv writes one way only."""
    in_metadata = in_wheels = False
    for line in text.splitlines():
        if in_wheels:
            in_wheels = line != "]"
            continue
        if line.startswith("["):
            in_metadata = line.startswith(("[package.metadata]", "[package.metadata."))
        if in_metadata or line.startswith("sdist = "):
            continue
        if line.startswith("wheels = ["):
            in_wheels = not line.endswith("]")
            continue
        yield line


def addresses(text: str) -> list[str]:
    """Name every address in a lock that is not the placeholder, e.g. the host of a registry or of a git source."""
    return sorted({url for url in _URL.findall(text) if not PLACEHOLDER.startswith(url)})


def _committed_text() -> str:
    """Return what git has staged for the lock, or the file where there is no git or the lock is not tracked yet."""
    shown = subprocess.run(["git", "show", ":uv.lock"], cwd=ROOT, capture_output=True, check=False)
    return shown.stdout.decode() if shown.returncode == 0 else strip((ROOT / "uv.lock").read_text(encoding="utf-8"))


def relock(text: str, options: list[str] | None = None) -> str:
    """Let uv complete a lock in a copy of the workspace's metadata, and return it stripped again."""
    with tempfile.TemporaryDirectory(prefix="yolo-lock-") as folder:
        copy_workspace(Path(folder), text)
        _uv_lock(Path(folder), options or [])
        return strip((Path(folder) / "uv.lock").read_text(encoding="utf-8"))


def settle(text: str) -> str:
    """Repeat `relock` until nothing changes: uv simplifies some markers only when it reads its own versions back."""
    for _ in range(ROUNDS):
        fresh = relock(text)
        if fresh == text:
            return text
        text = fresh
    raise SystemExit(f"scripts/lock.py: uv lock still changes its own result after {ROUNDS} rounds")


def copy_workspace(target: Path, lock: str) -> None:
    """Copy what uv reads of the workspace (the members and the root's pyproject), with `lock` as its uv.lock."""
    shutil.copy2(ROOT / "pyproject.toml", target)
    for members in ("packages", "plugins"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", ".venv*", "dist", "build")
        shutil.copytree(ROOT / members, target / members, ignore=ignored)
    if lock.strip():
        (target / "uv.lock").write_text(lock, encoding="utf-8")


def _uv_lock(folder: Path, options: list[str]) -> None:
    uv = shutil.which("uv")
    if uv is None:
        raise SystemExit("scripts/lock.py: uv is not installed: pip install uv")
    # An active virtual environment is of no concern here, and uv would warn about it.
    environment = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
    finished = subprocess.run([uv, "lock", "--quiet", *options], cwd=folder, env=environment, check=False)
    if finished.returncode != 0:
        raise SystemExit(f"scripts/lock.py: uv lock failed with exit code {finished.returncode}")


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _update(options: list[str]) -> int:
    lock = ROOT / "uv.lock"
    before = lock.read_text(encoding="utf-8") if lock.exists() else ""
    _write(lock, settle(relock(strip(before), options)))
    return 0


def _check() -> int:
    committed = _committed_text()
    advice = "run `python scripts/lock.py` and commit uv.lock"
    if found := addresses(committed):
        print(f"uv.lock names {', '.join(found)}: {advice}", file=sys.stderr)
        return 1
    if strip(committed) != committed:
        print(f"uv.lock is not stripped: {advice}", file=sys.stderr)
        return 1
    fresh = relock(committed)
    if fresh != committed:
        changes = difflib.unified_diff(committed.splitlines(), fresh.splitlines(), "committed", "fresh", lineterm="")
        print("\n".join(list(changes)[:40]), file=sys.stderr)
        print(f"uv.lock is not what the pyproject.toml files ask for: {advice}", file=sys.stderr)
        return 1
    print("uv.lock is stripped and fresh")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run one of the three modes and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="check the committed lock instead of writing it")
    mode.add_argument("--clean", action="store_true", help="filter standard input to standard output")
    options, uv_options = parser.parse_known_args(arguments)
    if uv_options and (options.check or options.clean):
        parser.error(f"options of `uv lock` make no sense here: {' '.join(uv_options)}")
    if options.clean:
        sys.stdout.buffer.write(strip(sys.stdin.buffer.read().decode("utf-8")).encode("utf-8"))
        return 0
    return _check() if options.check else _update(uv_options)


if __name__ == "__main__":
    sys.exit(main())
