"""Keys in settings that are printed or saved, and keys that a worker cannot get."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from yolo.data.config import DataConfig
from yolo.data.encryption import VARIABLE, Key, encrypt
from yolo.data.encryption.keys import hide_keys

SECRET = "0123456789abcdef" * 4


@pytest.mark.parametrize("key", [SECRET, SECRET[:-1], 12345])
@pytest.mark.parametrize("loose", [True, False], ids=["beside", "init_args"])
def test_the_key_of_a_loader_is_hidden_even_if_it_is_wrong(key: object, loose: bool) -> None:
    """Beside class_path is where jsonargparse leaves an option of the command line."""
    arguments = {"key": key, "use_opencv": False}
    loader = {"class_path": "encrypted", **(arguments if loose else {"init_args": arguments})}
    text = repr(DataConfig(image_loader=loader, encryption_key=SECRET, augmentations=[{"use": "rain", "key": 7}]))
    assert str(key) not in text and "encryption_key" not in text
    assert "'key': None, 'use_opencv': False" in text and "{'use': 'rain', 'key': 7}" in text
    saved = yaml.safe_load(hide_keys(yaml.safe_dump({"data": {"image_loader": loader, "scale": 0.5}, "key": 3})))
    shown = saved["data"]["image_loader"] if loose else saved["data"]["image_loader"]["init_args"]
    assert shown["key"] is None and shown["use_opencv"] is False
    assert (saved["data"]["scale"], saved["key"]) == (0.5, 3)


def test_the_rest_of_the_settings_is_shown_as_before() -> None:
    text = repr(DataConfig(root="cells", image_loader="encrypted", image_size=(64, 96)))
    assert text.startswith("DataConfig(root='cells', ") and "image_size=(64, 96)" in text
    assert "image_loader='encrypted'" in text and "bbox_mosaic=BBoxMosaicConfig(prob=0.0" in text


@pytest.mark.skipif("forkserver" not in multiprocessing.get_all_start_methods(), reason="no forkserver here")
def test_a_worker_that_cannot_get_the_key_says_what_to_do(tmp_path: Path) -> None:
    """A fork server hands on the environment that it was started with, and the key is sent to nobody."""
    sealed, main = tmp_path / "a.enc", tmp_path / "main.py"
    sealed.write_bytes(encrypt(b"x", Key(bytes.fromhex(SECRET))))
    main.write_text(
        "import multiprocessing, sys\n"
        "from yolo.core.errors import UsageError\n"
        "from yolo.data.loaders import open_loader\n"
        "if __name__ == '__main__':\n"
        "    context = multiprocessing.get_context('forkserver')\n"
        "    with context.Pool(1) as pool:\n"
        "        pool.apply(len, ([],))\n"
        f"    loader = open_loader('encrypted', encryption_key='{SECRET}')\n"
        "    try:\n"
        "        with context.Pool(1) as pool:\n"
        "            pool.apply(loader.read, (sys.argv[1],))\n"
        "    except UsageError as error:\n"
        "        print(error)\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(VARIABLE)}
    command = [sys.executable, str(main), str(sealed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60)
    assert "did not reach this process, which was started before the key was known" in done.stdout, done.stderr
    assert f"set {VARIABLE} to it in the environment before starting" in done.stdout
    assert SECRET not in done.stdout + done.stderr
