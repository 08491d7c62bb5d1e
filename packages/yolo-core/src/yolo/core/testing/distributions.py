"""Installed distributions without an installer, to test how a plugin is found."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def fake_distribution(
    folder: Path,
    name: str,
    *,
    plugins: Mapping[str, str],
    files: Mapping[str, str] | None = None,
    version: str = "1.0",
) -> Path:
    """Write what an installer would leave behind: a ``dist-info`` folder with entry points, and modules beside it.

    Put ``folder`` on ``sys.path`` (or on ``PYTHONPATH`` of a new process) to have the distribution installed.

    Args:
        folder: where to write; several distributions may share one folder.
        name: name of the distribution.
        plugins: entry points of the group ``yolo.plugins``: plugin name to module.
        files: relative path to source text.
        version: version of the distribution.

    Returns:
        ``folder``.
    """
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    lines = "".join(f"{plugin} = {module}\n" for plugin, module in plugins.items())
    (info / "entry_points.txt").write_text(f"[yolo.plugins]\n{lines}", encoding="utf-8")
    for path, text in (files or {}).items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    return folder
