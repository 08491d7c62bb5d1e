"""Keys that stay secret, and the two containers of encrypted files."""

from __future__ import annotations

import copy
import logging
import multiprocessing
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7
from PIL import Image

from yolo.core.errors import UsageError, YoloError
from yolo.data.encrypted_loader import EncryptedImageLoader
from yolo.data.encryption import VARIABLE, Key, decrypt, encrypt, find_key, keys, parse_key
from yolo.data.encryption.container import DamagedFileError, EncryptionError, WrongKeyError
from yolo.data.loaders import DefaultImageLoader, open_loader

SECRET = "0123456789abcdef" * 4
OTHER = "fedcba9876543210" * 4
KEY, OTHER_KEY = Key(bytes.fromhex(SECRET)), Key(bytes.fromhex(OTHER))


def cbc(content: bytes, key: Key, iv: bytes = bytes(range(16))) -> bytes:
    padder = PKCS7(128).padder()
    encryptor = Cipher(AES(key.reveal()), CBC(iv)).encryptor()
    return iv + encryptor.update(padder.update(content) + padder.finalize()) + encryptor.finalize()


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(VARIABLE):
            monkeypatch.delenv(name)
    monkeypatch.setattr(keys, "_known", {})


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"SOURCE is empty"),
        ("  \n", r"SOURCE is empty"),
        (SECRET[:-1], r"64 hexadecimal characters \(32 bytes\), not 63$"),
        (SECRET + "ab", r"not 66$"),
        (SECRET[:9] + "g" + SECRET[10:], r"1 of its 64 characters are not \(the first is number 10\)$"),
        (f"'{SECRET}'", r"2 of its 66 characters are not \(the first is number 1\)$"),
        ("pässword", r"of its 8 characters"),
    ],
)
def test_wrong_keys_are_explained_and_not_shown(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        parse_key(text, source="SOURCE")
    message = str(caught.value)
    assert not any(text[i : i + 4] in message for i in range(len(text) - 4) if text.strip())
    assert "\n" not in message


def test_a_key_shows_its_id_alone() -> None:
    key = parse_key(f" {SECRET.upper()}\n", source="x")
    assert key == KEY != OTHER_KEY
    assert len(key.id) == 16
    for text in (repr(key), str(key), f"{key}", repr([key]), repr(vars(EncryptedImageLoader(key=SECRET)))):
        assert SECRET[:8] not in text.lower()
        assert key.id in text
    assert copy.deepcopy({"key": key})["key"] is key
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="never pickled"):
            pickle.dumps(key, protocol)


def test_where_a_key_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=f"set {VARIABLE} to 64"):
        find_key()
    monkeypatch.setenv(VARIABLE, SECRET)
    assert find_key() == KEY
    with pytest.raises(UsageError, match=f"id {OTHER_KEY.id} did not reach this process"):
        find_key(OTHER_KEY.id)
    monkeypatch.setenv(VARIABLE, SECRET[:-2])
    with pytest.raises(UsageError, match=f"{VARIABLE}: .*not 62"):
        find_key()


@pytest.mark.parametrize(
    "written",
    ["{}", '"{}"', "' {} '", "|\n          {}\n", '"{}\\n"', "{}  # ours"],
    ids=["plain", "quoted", "blanks", "block", "line", "note"],
)
def test_configurations_lose_their_keys(written: str) -> None:
    """However a key may be written, white space around it included."""
    value = written.format(SECRET)
    loader = f"image_loader:\n    init_args:\n      key: {value}"
    text = f"data:\n  encryption_key: {value}\n  {loader}\n  other: [{SECRET}]\n  scale: 0.5\n"
    hidden = keys.hide_keys(text)
    assert SECRET not in hidden and hidden.count("null") == 3
    assert yaml.safe_load(hidden)["data"]["scale"] == 0.5
    assert yaml.safe_load(keys.hide_keys("encryption_key: 12345\n")) == {"encryption_key": None}


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 1000])
def test_both_containers_give_the_content_back(size: int) -> None:
    content = bytes(range(256))[:size] * (1 if size < 256 else size // 256)
    first, second = encrypt(content, KEY), encrypt(content, KEY)
    assert first != second, "a nonce was used twice"
    assert len(first) == len(content) + 45
    assert decrypt(first, KEY, name="a") == decrypt(second, KEY, name="a") == content
    assert decrypt(cbc(content, KEY), KEY, name="a") == content


def test_layout_is_as_documented() -> None:
    data = encrypt(b"content", KEY)
    assert data[:9] == b"YOLOENC\0\x01"
    assert data[9:17].hex() == KEY.id
    assert KEY.reveal()[:4] not in data


def test_every_changed_byte_is_noticed() -> None:
    data = encrypt(b"some content", KEY)
    for place in range(len(data)):
        damaged = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        with pytest.raises(EncryptionError, match=r"'a\.enc'") as caught:
            decrypt(damaged, KEY, name="a.enc")
        assert place < 9 or isinstance(caught.value, DamagedFileError)
        assert not isinstance(caught.value, WrongKeyError)
    for length in range(len(data)):
        with pytest.raises(EncryptionError, match=r"'a\.enc'"):
            decrypt(data[:length], KEY, name="a.enc")
    with pytest.raises(DamagedFileError):
        decrypt(data + b"\0", KEY, name="a.enc")


def test_a_wrong_key_is_told_from_damage() -> None:
    with pytest.raises(WrongKeyError, match=rf"'a\.enc' .*another key: its id is {KEY.id}.*{OTHER_KEY.id}"):
        decrypt(encrypt(b"x", KEY), OTHER_KEY, name="a.enc")
    with pytest.raises(EncryptionError, match="version 2"):
        decrypt(b"YOLOENC\0\x02" + bytes(60), KEY, name="a.enc")
    with pytest.raises(EncryptionError, match="wrong or the file is damaged"):
        decrypt(cbc(b"x" * 100, KEY), OTHER_KEY, name="a.enc")
    with pytest.raises(DamagedFileError, match="not whole AES blocks"):
        decrypt(cbc(b"x" * 100, KEY)[:-3], KEY, name="a.enc")


@pytest.mark.parametrize("use_opencv", [True, False])
@pytest.mark.parametrize("how", ["gcm", "cbc"])
def test_the_loader_reads_both(picture: Path, how: str, use_opencv: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    content = picture.read_bytes()
    sealed = picture.with_name("a.PNG.ENC")
    sealed.write_bytes(encrypt(content, KEY) if how == "gcm" else cbc(content, KEY))
    monkeypatch.setenv(VARIABLE, SECRET)
    loader = open_loader({"class_path": "encrypted", "init_args": {"use_opencv": use_opencv}})
    expected = DefaultImageLoader().read(str(picture))
    for path in (picture, sealed):
        np.testing.assert_array_equal(loader.read(str(path)), expected)
    assert loader.size(str(sealed)) == (64, 48)
    monkeypatch.setenv(VARIABLE, OTHER)
    with pytest.raises(EncryptionError, match=r"a\.PNG\.ENC"):
        loader.read(str(sealed))


def test_a_wrong_key_of_the_old_container_that_opens_by_chance(tmp_path: Path) -> None:
    path = tmp_path / "a.enc"
    path.write_bytes(cbc(b"no picture at all", KEY))
    loader = EncryptedImageLoader(key=SECRET)
    for read in (loader.read, loader.size):
        with pytest.raises(EncryptionError, match="is the key the right one"):
            read(str(path))
    path.write_bytes(encrypt(b"no picture at all", KEY))
    with pytest.raises(YoloError, match="not an image") as caught:
        loader.read(str(path))
    assert "right one" not in str(caught.value)


def test_plain_files_need_no_key_and_encrypted_ones_say_so(picture: Path, tmp_path: Path) -> None:
    assert EncryptedImageLoader().read(str(picture)).shape == (48, 64, 3)
    (tmp_path / "b.enc").write_bytes(encrypt(b"", KEY))
    with pytest.raises(UsageError, match=VARIABLE):
        EncryptedImageLoader().read(str(tmp_path / "b.enc"))
    (tmp_path / "folder.enc").mkdir()
    for name in ("absent.enc", "folder.enc"):
        with pytest.raises(YoloError, match=name):
            EncryptedImageLoader(key=SECRET).read(str(tmp_path / name))


@pytest.mark.parametrize("from_config", [True, False])
def test_a_pickled_loader_holds_no_key(picture: Path, from_config: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if from_config:
        loader = open_loader("encrypted", encryption_key=SECRET)
    else:
        monkeypatch.setenv(VARIABLE, SECRET)
        loader = open_loader("encrypted")
    loader.read(str(picture))
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        data = pickle.dumps(loader, protocol)
        for secret in (SECRET.encode(), SECRET.upper().encode(), KEY.reveal(), KEY.reveal()[:8]):
            assert secret not in data
    assert SECRET not in repr(loader) + str(loader) + repr(loader.__getstate__())
    for name in [name for name in os.environ if name.startswith(f"{VARIABLE}_")]:
        monkeypatch.delenv(name)


def test_the_key_of_the_configuration_yields_to_that_of_the_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, OTHER)
    own = open_loader({"class_path": "encrypted", "init_args": {"key": OTHER}}, encryption_key=SECRET)
    assert OTHER_KEY.id in repr(own)
    assert KEY.id in repr(open_loader("encrypted", encryption_key=SECRET))
    assert "None" in repr(open_loader("encrypted"))
    with pytest.raises(UsageError, match=r"data\.encryption_key: .*not 4"):
        open_loader("encrypted", encryption_key="abcd")
    assert isinstance(open_loader("default", encryption_key=SECRET), DefaultImageLoader)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_find_a_key_that_only_the_configuration_has(picture: Path, method: str) -> None:
    """In a fresh process, as a run is: a fork server that is there already has an older environment."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} on this system")
    sealed = picture.with_name("a.png.enc")
    sealed.write_bytes(encrypt(picture.read_bytes(), KEY))
    main = picture.with_name("main.py")
    main.write_text(
        "import multiprocessing, sys\n"
        "from yolo.data.loaders import open_loader\n"
        "if __name__ == '__main__':\n"
        f"    loader = open_loader('encrypted', encryption_key='{SECRET}')\n"
        "    loader.read(sys.argv[1])\n"
        "    with multiprocessing.get_context(sys.argv[2]).Pool(2) as pool:\n"
        "        print([image.shape for image in pool.map(loader.read, [sys.argv[1]] * 2)])\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(VARIABLE)}
    command = [sys.executable, str(main), str(sealed), method]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60)
    assert done.stdout.strip() == str([(48, 64, 3)] * 2), done.stderr


def test_nothing_logs_the_key(
    picture: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG):
        loader = open_loader("encrypted", encryption_key=SECRET)
        loader.read(str(picture))
        (picture.parent / "b.enc").write_bytes(encrypt(b"x", OTHER_KEY))
        with pytest.raises(WrongKeyError) as caught:
            loader.read(str(picture.parent / "b.enc"))
    written = "".join(capfd.readouterr()) + caplog.text + str(caught.value)
    assert SECRET[:16] not in written
