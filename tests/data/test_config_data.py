"""DataConfig: defaults, validation that names the key, and what jsonargparse makes of it."""

from __future__ import annotations

import pickle
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from jsonargparse import ArgumentParser

from yolo.core.errors import UsageError
from yolo.data.config import DataConfig
from yolo.data.config_bbox import BBoxMosaicConfig


@pytest.fixture
def parser() -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_class_arguments(DataConfig, "data")
    return parser


def parse(parser: ArgumentParser, *arguments: str) -> DataConfig:
    value: DataConfig = parser.instantiate(parser.parse_args(list(arguments))).data
    return value


def test_defaults_of_the_specification() -> None:
    config = DataConfig()
    assert (config.root, config.format, config.batch_size, config.num_workers) == ("data/coco", "coco", 16, 8)
    assert (config.pin_memory, config.prefetch_factor, config.size) == (True, 4, (640, 640))
    assert (config.mosaic_prob, config.close_mosaic_epochs) == (1.0, 15)
    assert (config.degrees, config.translate, config.scale, config.shear, config.perspective) == (0, 0.1, 0.9, 0, 0)
    assert (config.hsv_h, config.hsv_s, config.hsv_v, config.flip_lr, config.flip_ud) == (0.015, 0.7, 0.4, 0.5, 0)
    assert (config.mosaic_9_prob, config.mixup_prob, config.mixup_alpha, config.cutmix_prob) == (0, 0.15, 32, 0)
    assert (config.data_fraction, config.scaled_decode, config.share_decoded) == (1, True, False)
    documents = config.bbox_mosaic
    assert (documents.prob, documents.degrees, documents.translate, documents.scale) == (0, 20, 0.05, 0.15)
    assert (documents.shear, documents.perspective, documents.jitter) == (2, 0, 0.3)
    assert (documents.hsv_h, documents.hsv_s, documents.hsv_v) == (0.015, 0.4, 0.3)
    assert pickle.loads(pickle.dumps(config)) == config


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("root", ""),
        ("format", ""),
        ("image_size", 100),
        ("image_size", (640,)),
        ("image_size", (640, 650)),
        ("image_size", True),
        ("batch_size", 0),
        ("num_workers", -1),
        ("prefetch_factor", 0),
        ("num_classes", 0),
        ("mosaic_prob", 1.5),
        ("flip_lr", float("nan")),
        ("translate", -0.1),
        ("scale", 1.0),
        ("degrees", -5.0),
        ("shear", 90.0),
        ("hsv_h", "a lot"),
        ("close_mosaic_epochs", -1),
        ("mosaic_9_prob", -0.1),
        ("mixup_prob", 2.0),
        ("mixup_alpha", 0.0),
        ("cutmix_prob", float("inf")),
        ("data_fraction", 0.0),
        ("data_fraction", 1.5),
        ("bbox_mosaic", 0.6),
        ("bbox_mosaic.prob", {"prob": 2}),
        ("bbox_mosaic.scale", {"scale": 1.0}),
        ("bbox_mosaic.jiter", {"jiter": 0.5}),
        ("seed", -1),
        ("augmentations", [{"p": 0.5}]),
        ("augmentations", [{"use": "rain", "p": 2}]),
    ],
)
def test_errors_name_the_key(key: str, value: Any) -> None:
    with pytest.raises(UsageError, match=rf"data\.{key}\b"):
        DataConfig(**{key.split(".")[0]: value})


def test_every_key_has_a_help_text(parser: ArgumentParser) -> None:
    text = " ".join(parser.format_help().split())
    for item in fields(DataConfig):
        _, _, after = text.partition(f" --data.{item.name} ")
        assert after, item.name
    for words in ("Folder of the data set", "Multiples of 32", "without mosaics", "Probability of a left-right flip"):
        assert words in text
    assert text.count("(type:") >= len(fields(DataConfig))


def test_nested_yaml(parser: ArgumentParser, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(
        "data:\n  root: cells\n  image_size: [640, 320]\n  image_loader:\n    class_path: a.B\n    init_args: {x: 1}\n"
        "  augmentations:\n  - {use: rain, p: 0.3}\n"
    )
    config = parse(parser, "--config", str(path), "--data.batch_size=4")
    assert config.size == (640, 320)
    assert config.image_loader == {"class_path": "a.B", "init_args": {"x": 1}}
    assert config.augmentations == [{"use": "rain", "p": 0.3}]
    assert config.batch_size == 4


def test_command_line_forms(parser: ArgumentParser) -> None:
    assert parse(parser, "--data.image_size=320").size == (320, 320)
    assert parse(parser, "--data.image_size", "[64, 32]").size == (64, 32)
    assert parse(parser, "--data.image_loader=turbojpeg").image_loader == "turbojpeg"
    assert parse(parser, "--data.image_loader.class_path=a.B").image_loader == {"class_path": "a.B"}


def test_bbox_mosaic_forms(parser: ArgumentParser, tmp_path: Path) -> None:
    """In a file any of its keys; on the command line each by itself, over the file; in Python a mapping."""
    path = tmp_path / "run.yaml"
    path.write_text("data:\n  bbox_mosaic:\n    prob: 0.6\n    jitter: 0.5\n")
    config = parse(parser, "--config", str(path), "--data.bbox_mosaic.prob=0.8")
    assert config.bbox_mosaic == BBoxMosaicConfig(prob=0.8, jitter=0.5)
    assert DataConfig(bbox_mosaic={"prob": 0.8, "jitter": 0.5}).bbox_mosaic == config.bbox_mosaic  # type: ignore[arg-type]
    namespace = parser.parse_args(["--data.bbox_mosaic.prob=0.8"]).data.bbox_mosaic
    assert DataConfig(bbox_mosaic=namespace).bbox_mosaic == BBoxMosaicConfig(prob=0.8)
    assert DataConfig(bbox_mosaic=None).bbox_mosaic == BBoxMosaicConfig()  # type: ignore[arg-type]
    with pytest.raises(Exception, match="jiter"):
        parse(parser, "--data.bbox_mosaic.jiter=0.5")


def test_the_key_is_never_printed() -> None:
    assert "c0ffee" not in repr(DataConfig(encryption_key="c0ffee" * 10 + "0000"))


@pytest.mark.parametrize("argument", ["--data.rot=x", "--data.cache_compress=true", "--data.batch_size=many"])
def test_unknown_keys_and_wrong_types_are_refused(parser: ArgumentParser, argument: str) -> None:
    with pytest.raises(Exception, match=argument.split("=")[0].removeprefix("--").split(".")[1]):
        parse(parser, argument)


def test_paths_are_relative_to_the_root(tmp_path: Path) -> None:
    config = DataConfig(root=str(tmp_path), train_images="a/b", val_images=str(tmp_path / "c"))
    assert config.path("images", "train") == tmp_path / "a/b"
    assert config.path("images", "val") == tmp_path / "c"
    assert config.path("labels", "train") is None
    assert DataConfig(root=str(tmp_path / "data.yaml")).folder == tmp_path
    with pytest.raises(UsageError, match="valid"):
        config.path("images", "valid")
