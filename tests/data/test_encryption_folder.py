"""`yolo data encrypt` and `yolo data decrypt`, and encrypted data sets from end to end."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from yolo.core.errors import UsageError, YoloError
from yolo.data.commands.encrypt import decrypt as decrypt_command
from yolo.data.commands.encrypt import encrypt as encrypt_command
from yolo.data.config import DataConfig
from yolo.data.encryption import VARIABLE, Key, encrypt, folder, keys
from yolo.data.encryption.container import DamagedFileError, WrongKeyError
from yolo.data.encryption.names import image_stem, stored_file, without_twins
from yolo.data.formats import load_labels
from yolo.data.formats.sizes import read_sizes
from yolo.data.loader import build_loader
from yolo.data.loaders import open_loader

SECRET, OTHER = "0123456789abcdef" * 4, "fedcba9876543210" * 4
EXTRA = frozenset({".enc"})


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(f"{VARIABLE}_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(keys, "_known", {})
    monkeypatch.setenv(VARIABLE, SECRET)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    root = tmp_path / "pictures"
    for number, name in enumerate(("a.jpg", "b.PNG", "sub/a.jpg", "sub/deep er/ü.webp")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (60 * number, 0, 90)).save(root / name)
    (root / "notes.txt").write_text("not a picture")
    (root / "._a.jpg").write_bytes(b"resource fork")
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def run(command: object, *arguments: object) -> Result:
    done = CliRunner().invoke(command, [str(argument) for argument in arguments])  # type: ignore[arg-type]
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def test_there_and_back(pictures: Path, tmp_path: Path) -> None:
    before = contents(pictures)
    done = run(encrypt_command, pictures, "--output", tmp_path / "sealed")
    assert "Images encrypted: 4" in done.output
    assert "originals kept" in done.output
    assert SECRET[:8] not in done.output
    assert contents(pictures) == before
    sealed = contents(tmp_path / "sealed")
    assert sorted(sealed) == ["a.jpg.enc", "b.PNG.enc", "sub/a.jpg.enc", "sub/deep er/ü.webp.enc"]
    assert all(data.startswith(b"YOLOENC\0") for data in sealed.values())
    done = run(decrypt_command, tmp_path / "sealed", "-o", tmp_path / "back")
    assert "Images decrypted: 4" in done.output
    images = {name: data for name, data in before.items() if name not in ("notes.txt", "._a.jpg")}
    assert contents(tmp_path / "back") == images


def test_in_place_and_originals_removed_when_asked(pictures: Path) -> None:
    before = contents(pictures)
    run(encrypt_command, pictures)
    assert len(contents(pictures)) == len(before) + 4
    done = run(encrypt_command, pictures, "--remove-originals")  # goes on where the first run stopped
    assert "done before: 4" in done.output
    assert "originals removed: 4" in done.output
    left = contents(pictures)
    assert sorted(left) == sorted(name + ".enc" * (name not in ("notes.txt", "._a.jpg")) for name in before)
    done = run(decrypt_command, pictures, "--remove-originals")
    assert contents(pictures) == before


def test_nothing_is_overwritten_without_force(pictures: Path, tmp_path: Path) -> None:
    output = tmp_path / "sealed"
    (output / "sub").mkdir(parents=True)
    (output / "sub/a.jpg.enc").write_bytes(b"something else")
    with pytest.raises(UsageError, match=r"sub/a\.jpg\.enc' is in the way.*nothing was written.*--force"):
        run(encrypt_command, pictures, "-o", output)
    assert list(contents(output)) == ["sub/a.jpg.enc"]
    run(encrypt_command, pictures, "-o", output, "--force")
    assert len(contents(output)) == 4
    (pictures / "a.jpg").write_bytes((pictures / "b.PNG").read_bytes())
    with pytest.raises(UsageError, match="in the way"):
        run(decrypt_command, output, "-o", pictures)


def test_a_wrong_key_a_damaged_file_and_no_key_are_told_apart(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, back = tmp_path / "sealed", tmp_path / "back"
    run(encrypt_command, pictures, "-o", output)
    monkeypatch.setenv(VARIABLE, OTHER)
    with pytest.raises(WrongKeyError, match="another key"):
        run(decrypt_command, output, "-o", back, "--remove-originals")
    assert not back.exists()
    monkeypatch.setenv(VARIABLE, SECRET)
    data = (output / "b.PNG.enc").read_bytes()
    (output / "b.PNG.enc").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(DamagedFileError, match=r"b\.PNG\.enc' is damaged"):
        run(decrypt_command, output, "-o", back, "--remove-originals")
    assert (output / "b.PNG.enc").exists()
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(UsageError, match=f"set {VARIABLE}"):
        run(encrypt_command, pictures)
    with pytest.raises(UsageError, match="does not exist"):
        monkeypatch.setenv(VARIABLE, SECRET)
        run(encrypt_command, tmp_path / "nowhere")


def test_the_key_of_a_configuration(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE)
    config = tmp_path / "run.yaml"
    config.write_text(f"data:\n  encryption_key: {OTHER}\n")
    assert Key(bytes.fromhex(OTHER)).id in run(encrypt_command, pictures, "--config", config).output
    config.write_text(f"data:\n  encryption_key: {OTHER}zz\n")
    with pytest.raises(UsageError, match=r"data\.encryption_key of .*run\.yaml: .*2 of its 66") as caught:
        run(encrypt_command, pictures, "--config", config)
    assert OTHER[:8] not in str(caught.value)
    config.write_text(f"data: [\n  encryption_key: {OTHER}\n")
    with pytest.raises(UsageError, match=r"is not a YAML file \(line") as caught:
        run(encrypt_command, pictures, "--config", config)
    assert OTHER[:8] not in str(caught.value)


def test_an_original_stays_when_its_copy_is_not_right(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk gives back other bytes than were written."""
    monkeypatch.setattr(folder, "write_atomically", lambda target, data: target.write_bytes(data[:-1]))
    with pytest.raises(YoloError, match=r"does not hold what was written.*is kept"):
        run(encrypt_command, pictures, "--remove-originals")
    assert (pictures / "a.jpg").exists()


@pytest.mark.parametrize("options", [[], ["--remove-originals"]])
def test_noise_is_not_taken_for_a_decrypted_picture(
    pictures: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    """AES-CBC opens about one file in 256 with any wrong key."""
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import AES
    from cryptography.hazmat.primitives.ciphers.modes import CBC

    encryptor = Cipher(AES(bytes.fromhex(SECRET)), CBC(bytes(16))).encryptor()
    noise = bytes(range(256)) + bytes([1])  # 1 is what is padded: it ends as a sound file does
    noise = noise[: len(noise) // 16 * 16 - 1] + bytes([1])
    sealed = pictures / "a.jpg.enc"
    sealed.write_bytes(bytes(16) + encryptor.update(noise) + encryptor.finalize())
    (pictures / "a.jpg").unlink()
    with pytest.raises(YoloError, match=r"a\.jpg\.enc.*is the key the right one"):
        run(decrypt_command, pictures, *options)
    assert sealed.is_file() and not (pictures / "a.jpg").exists()


def test_links_are_looked_at_before_anything_is_written(pictures: Path) -> None:
    (pictures / "b.PNG").rename(pictures / "real.png")
    (pictures / "c.jpg").symlink_to(pictures / "a.jpg")
    before = contents(pictures)
    with pytest.raises(UsageError, match=r"c\.jpg' is a link, and what it leads to would stay"):
        run(encrypt_command, pictures, "--remove-originals")
    (pictures / "gone.jpg").symlink_to(pictures / "nowhere.jpg")
    with pytest.raises(UsageError, match=r"gone\.jpg' is a link that leads to no file"):
        run(encrypt_command, pictures)
    assert contents(pictures) == before


def test_a_full_disk_keeps_everything(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(target: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    before = contents(pictures)
    monkeypatch.setattr(folder, "write_atomically", full)
    with pytest.raises(YoloError, match=r"a\.jpg\.enc' cannot be written: No space left"):
        run(encrypt_command, pictures, "--remove-originals")
    assert contents(pictures) == before


def test_names_of_existing_data_sets(tmp_path: Path) -> None:
    """`a.enc` gets the suffix of its content; two files that would become one are refused before anything is done."""
    key = Key(bytes.fromhex(SECRET))
    Image.new("RGB", (8, 6)).save(tmp_path / "a.jpg")
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").unlink()
    (tmp_path / "a.enc").write_bytes(encrypt(content, key))
    run(decrypt_command, tmp_path)
    assert (tmp_path / "a.jpg").read_bytes() == content
    (tmp_path / "a.jpg.enc").write_bytes(encrypt(content, key))
    with pytest.raises(UsageError, match="would both become"):
        run(decrypt_command, tmp_path)
    (tmp_path / "a.jpg.enc").write_bytes(encrypt(b"text", key))
    (tmp_path / "a.enc").rename(tmp_path / "b.enc")
    (tmp_path / "b.enc").write_bytes(encrypt(b"text", key))
    with pytest.raises(YoloError, match=r"b\.enc' was decrypted, but is no image"):
        run(decrypt_command, tmp_path, "--force")
    with pytest.raises(UsageError, match=r"there are no \.enc files"):
        (tmp_path / "empty").mkdir()
        run(decrypt_command, tmp_path / "empty")


def test_stems_and_twins(tmp_path: Path) -> None:
    for name in ("x/a.jpg", "x/a.jpg.enc", "x/a.enc", "x/a.JPG.ENC", "x/a"):
        assert image_stem(name, EXTRA) == "x/a"
    assert image_stem("x/a.v2.enc", EXTRA) == "x/a.v2"
    assert image_stem("x/a.jpg.enc") == "x/a.jpg"
    paths = ["a.jpg", "a.jpg.enc", "b.enc", "b.png", "c.enc", "d.jpg.enc", "d.png"]
    assert without_twins(paths, EXTRA) == ["a.jpg", "b.png", "c.enc", "d.jpg.enc", "d.png"]
    assert without_twins(paths, ()) == paths
    for name in ("a.jpg.enc", "b.enc", "v1.enc"):
        (tmp_path / name).touch()
    found = [stored_file(str(tmp_path / name), EXTRA) for name in ("a.jpg", "b.jpg", "c.jpg", "v1.5")]
    assert [name and Path(name).name for name in found] == ["a.jpg.enc", "b.enc", None, None]
    assert stored_file(str(tmp_path / "a.jpg")) is None


def batches(config: DataConfig, **options: object) -> list[np.ndarray]:
    table = load_labels(config, "train")
    loader = build_loader(config, table, training=True, **options)  # type: ignore[arg-type]
    return [batch.images.numpy() for batch in loader]


@pytest.mark.parametrize("naming", ["a.jpg.enc", "a.enc"])
@pytest.mark.parametrize("layout", ["coco", "yolo", "yolo with a list"])
def test_encrypted_data_sets_train_as_plain_ones(
    layout: str, naming: str, synthetic_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "data"
    shutil.copytree(synthetic_data, root)
    key = Key(bytes.fromhex(SECRET))
    options: dict[str, object] = {"format": layout[:4], "image_size": 64, "batch_size": 4, "num_workers": 0, "seed": 3}
    if "list" in layout:
        names = sorted(path.name for path in (root / "images/train").iterdir())
        (root / "list.txt").write_text("".join(f"{name}\n" for name in names))
        options |= {"train_images": "images/train", "train_split": "list.txt"}
    expected = batches(DataConfig(root=str(root), **options))  # type: ignore[arg-type]
    for path in list((root / "images").rglob("*.*")):
        target = path.with_suffix(".enc") if naming == "a.enc" else path.with_name(f"{path.name}.enc")
        target.write_bytes(encrypt(path.read_bytes(), key))
        path.unlink()
    config = DataConfig(root=str(root), image_loader="encrypted", **options)  # type: ignore[arg-type]
    for ours, theirs in zip(batches(config), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(YoloError):
        load_labels(DataConfig(root=str(root), **options), "train")  # type: ignore[arg-type]
    monkeypatch.setenv(VARIABLE, OTHER)
    with pytest.raises(WrongKeyError) as caught:
        load_labels(config, "train")
    assert "remove or replace" not in str(caught.value)


def test_workers_read_with_the_key_of_the_configuration(
    synthetic_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE)
    root = tmp_path / "data"
    shutil.copytree(synthetic_data, root)
    for path in list((root / "images").rglob("*.*")):
        path.with_name(f"{path.name}.enc").write_bytes(encrypt(path.read_bytes(), Key(bytes.fromhex(SECRET))))
        path.unlink()
    config = DataConfig(
        root=str(root), image_loader="encrypted", encryption_key=SECRET, image_size=64, batch_size=8, num_workers=1
    )
    assert SECRET not in repr(config)
    assert len(batches(config, context="spawn")) == 2


def test_what_is_said_without_the_encrypted_loader(synthetic_data: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(synthetic_data, root)
    for path in list((root / "images").rglob("*.*")):
        path.rename(path.with_name(f"{path.name}.enc"))
    for layout in ("yolo", "coco"):
        with pytest.raises(YoloError, match=r"image_loader: encrypted"):
            load_labels(DataConfig(root=str(root), format=layout), "train")

    first = next((root / "images").rglob("*.enc"))
    first.write_bytes(encrypt(b"x", Key(bytes.fromhex(SECRET))))
    with pytest.raises(YoloError, match=r"it is encrypted: .*image_loader: encrypted"):
        open_loader("fast").read(str(first))


def test_sizes_come_from_decrypted_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.jpg")
    Image.new("RGB", (40, 30)).save(tmp_path / "b.bmp")
    key = Key(bytes.fromhex(SECRET))
    for name in ("a.jpg", "b.bmp"):
        (tmp_path / f"{name}.enc").write_bytes(encrypt((tmp_path / name).read_bytes(), key))
    loader = open_loader("encrypted")
    monkeypatch.setattr(loader, "read", lambda *_, **__: pytest.fail("the pixels were decoded"))
    assert read_sizes([str(tmp_path / f"{name}.enc") for name in ("a.jpg", "b.bmp")], loader).tolist() == [[40, 30]] * 2


def test_coco_names_may_be_those_of_the_originals_or_of_the_files(tmp_path: Path) -> None:
    images = tmp_path / "images/train"
    images.mkdir(parents=True)
    (tmp_path / "annotations").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "a.jpg")
    for name in ("a.jpg.enc", "b.jpg.enc"):
        (images / name).write_bytes(encrypt((tmp_path / "a.jpg").read_bytes(), Key(bytes.fromhex(SECRET))))
    document = {
        "images": [
            {"id": 1, "file_name": "a.jpg", "width": 40, "height": 30},
            {"id": 2, "file_name": "b.jpg.enc", "width": 40, "height": 30},
        ],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0}],
    }
    (tmp_path / "annotations/instances_train.json").write_text(json.dumps(document))
    table = load_labels(DataConfig(root=str(tmp_path), image_loader="encrypted"), "train")
    assert [Path(path).name for path in table.paths] == ["a.jpg.enc", "b.jpg.enc"]
    document["images"].append({"id": 3, "file_name": "a.jpg.enc", "width": 40, "height": 30})  # type: ignore[attr-defined]
    (tmp_path / "annotations/instances_train.json").write_text(json.dumps(document))
    with pytest.raises(YoloError, match="image 3: it is the same file as image 1"):
        load_labels(DataConfig(root=str(tmp_path), image_loader="encrypted"), "train")
