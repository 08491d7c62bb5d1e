"""Places for files are looked at before they are needed, and left as they were."""

from __future__ import annotations

from pathlib import Path

import pytest

from yolo.core.files import check_writable


def test_a_folder_that_is_still_to_be_made_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_writable(tmp_path)
    check_writable("some/where/deep")
    assert not list(tmp_path.iterdir())


def test_what_is_in_the_way_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="it is no folder") as caught:
        check_writable(tmp_path / "file" / "x")
    assert caught.value.filename == str(tmp_path / "file")

    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied", "/a/temporary/name")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(PermissionError, match="Permission denied") as refused:
        check_writable(tmp_path / "x")
    assert refused.value.filename == str(tmp_path)
