"""Pictures that occur twice: the hash, the search, and what is said of them."""

from __future__ import annotations

import io
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from yolo.data.check import check_dataset
from yolo.data.check.duplicates import Pictures, find_duplicates
from yolo.data.check.hashing import DISTANCE, near_pairs, perceptual_hash, thumbnail
from yolo.data.config import DataConfig


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 5), st.lists(st.integers(0, 63), max_size=9)), max_size=40))
def test_the_search_finds_what_comparing_all_pairs_finds(items: list[tuple[int, list[int]]]) -> None:
    base = np.random.default_rng(3).integers(0, 1 << 63, 6, np.uint64).tolist()
    values = []
    for number, flips in items:
        value = base[number]
        for bit in flips:
            value ^= 1 << bit
        values.append(value)
    hashes = np.unique(np.array(values, np.uint64))
    pairs = [
        [i, j]
        for i in range(len(hashes))
        for j in range(i + 1, len(hashes))
        if (int(hashes[i]) ^ int(hashes[j])).bit_count() <= DISTANCE
    ]
    assert near_pairs(hashes).tolist() == pairs


def test_the_search_is_not_quadratic() -> None:
    rng = np.random.default_rng(0)
    hashes = np.unique(rng.integers(0, 1 << 63, 200_000, np.uint64))
    crowd = np.unique(rng.integers(0, 1 << 40, 30_000, np.uint64) << np.uint64(20))  # all share two blocks
    start = time.process_time()
    near_pairs(hashes)
    near_pairs(crowd)
    assert time.process_time() - start < 15  # all pairs would be 20,000 million


def test_a_crowd_of_equal_pictures_is_grouped_quickly() -> None:
    count = 20_000
    pictures = Pictures([f"{i}.jpg" for i in range(count)], ["train"] * count, [7] * count)
    pictures.thumbs = [np.full((16, 16), 99, np.uint8)] * count
    start = time.process_time()
    result = find_duplicates(pictures)
    assert len(result.findings) == count - 1
    assert time.process_time() - start < 15


def variants(image: Image.Image) -> dict[str, Image.Image]:
    def jpeg(quality: int) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        return Image.open(file)

    width, height = image.size
    return {
        "compressed": jpeg(30),
        "half": image.resize((width // 2, height // 2)),
        "larger": image.resize((width * 3 // 2, height * 3 // 2), Image.Resampling.BICUBIC),
        "brighter": ImageEnhance.Brightness(image).enhance(1.08),
        "grey": image.convert("L").convert("RGB"),
    }


def test_real_pictures_keep_their_hash_and_differ_from_each_other(datasets: Path) -> None:
    files = sorted((datasets / "tiny-coco/images/val").glob("*.jpg"))[:25]
    hashes = []
    kept = total = 0
    for file in files:
        image = Image.open(file).convert("RGB")
        hashes.append(perceptual_hash(np.array(image)))
        for changed in variants(image).values():
            kept += (perceptual_hash(np.array(changed.convert("RGB"))) ^ hashes[-1]).bit_count() <= DISTANCE
            total += 1
    assert kept / total > 0.97
    assert len(near_pairs(np.unique(np.array(hashes, np.uint64)))) == 0


def test_copies_within_and_across_splits(datasets: Path, tmp_path: Path) -> None:
    files = sorted((datasets / "tiny-coco/images/val").glob("*.jpg"))[:6]
    for split in ("train", "val"):
        (tmp_path / "images" / split).mkdir(parents=True)
    for number, file in enumerate(files):
        split = "train" if number < 4 else "val"
        (tmp_path / f"images/{split}/{number}.jpg").write_bytes(file.read_bytes())
    image = Image.open(files[0]).convert("RGB")
    (tmp_path / "images/train/0_again.jpg").write_bytes(files[0].read_bytes())
    variants(image)["half"].save(tmp_path / "images/train/0_half.png")
    (tmp_path / "images/val/1_leaked.jpg").write_bytes(files[1].read_bytes())
    turned = Image.Exif()
    turned[0x0112] = 6
    leaked = Image.open(files[2]).convert("RGB").transpose(Image.Transpose.ROTATE_90)
    leaked.save(tmp_path / "images/val/2_turned.jpg", exif=turned, quality=80)
    for path in (tmp_path / "images").rglob("*.*"):
        at = tmp_path / "labels" / path.relative_to(tmp_path / "images").with_suffix(".txt")
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_text("0 0.5 0.5 0.2 0.2\n")
    (tmp_path / "data.yaml").write_text("names: [x]\n")
    report = check_dataset(DataConfig(root=str(tmp_path), format="yolo"))
    found = sorted((f.kind, f.severity, Path(f.file).name) for f in report.findings)
    assert found == [
        ("duplicate-image", "warning", "0_again.jpg"),
        ("duplicate-image-across-splits", "warning", "1.jpg"),
        ("near-duplicate-image", "info", "0_half.png"),
        ("near-duplicate-image-across-splits", "warning", "2.jpg"),
    ]
    assert "1_leaked.jpg of val" in next(f.message for f in report.findings if f.file.endswith("1.jpg"))


@pytest.mark.parametrize(("level", "same"), [(200, True), (90, False)])
def test_blank_pictures_are_alike_only_at_one_brightness(level: int, same: bool) -> None:
    pictures = Pictures()
    for number, value in enumerate((190, level)):
        image = np.full((60, 80, 3), value, np.uint8)
        pictures.paths.append(f"{number}.jpg")
        pictures.splits.append("train")
        pictures.hashes.append(perceptual_hash(image))
        pictures.thumbs.append(thumbnail(image))
    assert bool(find_duplicates(pictures).findings) == same
