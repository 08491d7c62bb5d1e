"""``yolo fit`` from weights of other classes, on real pictures: what it prints, and what the network then holds."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback

from yolo.cli.main import main
from yolo.core.errors import UsageError
from yolo.core.models import Network, build_model
from yolo.core.models.spec import load_spec
from yolo.core.weights.bundle import BUNDLE_KEY, ModelBundle
from yolo.core.weights.coco import coco_names
from yolo.core.weights.file import WeightsError
from yolo.training import pretrained
from yolo.training.module import YOLOModule
from yolo.training.trainer_cli import make_cli, run_fit

NAMES = ("RBC", "WBC", "Platelets")
CLASS_BIAS = "22.heads.0.class_conv.2.bias"


@pytest.fixture(scope="module")
def blood(datasets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four training and two validation pictures of the data set `bccd`, by link."""
    root = tmp_path_factory.mktemp("blood")
    (root / "annotations").mkdir()
    for split, count in (("train", 4), ("val", 2)):
        content = json.loads((datasets / "bccd" / "annotations" / f"instances_{split}.json").read_text())
        images = content["images"][:count]
        kept = {image["id"] for image in images}
        content |= {"images": images, "annotations": [a for a in content["annotations"] if a["image_id"] in kept]}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
        (root / "images").mkdir(exist_ok=True)
        (root / "images" / split).symlink_to(datasets / "bccd" / "images" / split)
    return root


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Plain weights of v9-t with 80 classes, and the same without the auxiliary branch."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    network = build_model("v9-t")
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("class_conv.2.bias"):
                parameter.copy_(-8 + torch.arange(80) / 80)
    drop = tuple(f"{layer.index}." for layer in network.spec.layers if layer.auxiliary)
    state = network.state_dict()
    torch.save(state, folder / "full.pt")
    torch.save({k: v for k, v in state.items() if not k.startswith(drop)}, folder / "converted.pt")
    return folder


def options(blood: Path, root: Path, **more: object) -> list[str]:
    settings = {
        "data.root": blood, "data.image_size": 64, "data.batch_size": 2, "data.num_workers": 0,
        "model.model_config": "v9-t", "trainer.max_epochs": 1, "trainer.limit_train_batches": 1,
        "trainer.limit_val_batches": 0, "trainer.num_sanity_val_steps": 0, "trainer.accelerator": "cpu",
        "trainer.enable_progress_bar": "false", "trainer.enable_checkpointing": "false",
        "trainer.logger.init_args.save_dir": root,
        **{key.replace("__", "."): value for key, value in more.items()},
    }  # fmt: skip
    return [f"--{key}={value}" for key, value in settings.items()]


class Start(Callback):
    """Takes the weights as they are when training starts."""

    state: dict[str, torch.Tensor]

    def on_train_start(self, trainer, pl_module) -> None:
        self.state = {key: value.clone() for key, value in pl_module.model.state_dict().items()}


def started(arguments: list[str]) -> dict[str, torch.Tensor]:
    """The weights that a training starts from."""
    cli, start = make_cli(arguments), Start()
    cli.trainer.callbacks.append(start)
    cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    return start.state


def rename(blood: Path, target: Path, names: tuple[str, ...]) -> Path:
    """The same pictures with other class names."""
    (target / "annotations").mkdir(parents=True)
    (target / "images").symlink_to(blood / "images")
    for path in (blood / "annotations").iterdir():
        content = json.loads(path.read_text())
        for category, name in zip(content["categories"], names, strict=True):
            category["name"] = name
        (target / "annotations" / path.name).write_text(json.dumps(content))
    return target


def notes(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == pretrained.__name__]


def test_the_table_of_eighty_to_three_classes(blood, tiny, tmp_path, caplog) -> None:
    path = tiny / "full.pt"
    with caplog.at_level(logging.INFO, logger="yolo"):
        assert main(["fit", *options(blood, tmp_path, model__weight_path=path)]) == 0
    assert notes(caplog) == [
        f"{path} names no classes; its 80 are taken to be COCO's",
        f"Weights of {path} for v9-t with 3 classes:\n"
        "  loaded           1764 tensors\n"
        "  re-initialised     12 tensors  class layers\n"
        "  missing             0 tensors\n"
        "  unexpected          0 tensors\n"
        "  class rows          0 of 3  carried over by name from 80 in the file",
    ]


def test_a_converted_file_lacks_the_auxiliary_branch_and_nothing_else(blood, tiny, tmp_path, caplog) -> None:
    with caplog.at_level(logging.INFO, logger="yolo"):
        run_fit(options(blood, tmp_path, model__weight_path=tiny / "converted.pt", model__verbose_weights="true"))
    table = notes(caplog)[-1]
    assert "  loaded           1335 tensors\n" in table and "      layer 0: all 6 tensors\n" in table
    assert "  re-initialised      6 tensors  class layers\n" in table and f"      {CLASS_BIAS}\n" in table
    assert "  missing           435 tensors  in the auxiliary branch, which only training needs\n" in table
    assert "      layer 30: all " in table


def test_classes_known_by_name_keep_their_rows(blood, tiny, tmp_path) -> None:
    """COCO's `person` and `dog` become one's own, at another place; the third class starts with the prior."""
    data = rename(blood, tmp_path / "data", ("Dog", "cell", "person"))
    state = started(options(data, tmp_path, model__weight_path=tiny / "full.pt"))
    source = torch.load(tiny / "full.pt", weights_only=True)
    prior = torch.log(torch.tensor(5 / 3 / (64 / 8) ** 2))
    dog, person = coco_names().index("dog"), coco_names().index("person")
    torch.testing.assert_close(
        state[CLASS_BIAS], torch.stack([source[CLASS_BIAS][dog], prior, source[CLASS_BIAS][person]])
    )
    for head in (22, 30):
        weight = f"{head}.heads.1.class_conv.2.weight"
        assert torch.equal(state[weight][[0, 2]], source[weight][[dog, person]])
        hidden = f"{head}.heads.1.class_conv.0.conv.weight"
        assert torch.equal(state[hidden], source[hidden]), "the width of the file is kept"
    state = started(options(data, tmp_path, model__weight_path=tiny / "full.pt", model__transfer_classes="false"))
    torch.testing.assert_close(state[CLASS_BIAS], prior.expand(3))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_equal_classes_start_from_every_trained_bias(blood, tmp_path, order) -> None:
    """Also in another order: rows go where their class went, and nothing is initialised again."""
    network = build_model("v9-t", 3)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "anc2vec" not in name:
                parameter.copy_(torch.randn(parameter.shape) / 10)
    names = tuple(NAMES[index] for index in order)
    save_bundle(network, names, tmp_path / "best.ckpt")
    state, source = started(options(blood, tmp_path, model__weight_path=tmp_path / "best.ckpt")), network.state_dict()
    for key, value in state.items():
        expected = source[key][[names.index(name) for name in NAMES]] if ".class_conv.2." in key else source[key]
        assert torch.equal(value, expected), key


def save_bundle(network: Network, names: tuple[str, ...], path: Path) -> None:
    torch.save({BUNDLE_KEY: ModelBundle(network.spec.to_dict(), network.state_dict(), names).to_dict()}, path)


def test_weights_of_another_network_are_an_error_unless_forced(blood, tiny, tmp_path, caplog) -> None:
    arguments = options(blood, tmp_path, model__weight_path=tiny / "full.pt", model__model_config="v9-s")
    with pytest.raises(
        WeightsError, match=r"only \d+% of the parameters of 'v9-s' are in .*full\.pt.*fit 'v9-t'.*force"
    ):
        run_fit(arguments)
    with caplog.at_level(logging.INFO, logger="yolo"):
        assert run_fit([*arguments, "--model.force_weights=true"]) == 0
    assert "other shapes" in notes(caplog)[-1]


def test_true_fetches_the_published_weights(blood, tiny, tmp_path, monkeypatch) -> None:
    asked = []

    def fetch(name: str, **_: object) -> Path:
        asked.append(name)
        return tiny / "converted.pt"

    monkeypatch.setattr(pretrained, "fetch_weights", fetch)
    state = started(options(blood, tmp_path, model__weight_path="true"))
    assert asked == ["v9-t"]
    key = "0.conv.weight"
    assert torch.equal(state[key], torch.load(tiny / "converted.pt", weights_only=True)[key])
    with pytest.raises(UsageError, match=r"model\.weight_path is true.*'mine\.yaml' is no published network"):
        pretrained.weight_file(True, "mine.yaml")


def test_other_anchor_boxes_than_those_of_the_file_are_said(tmp_path, caplog) -> None:
    spec = load_spec("v7")
    assert spec.anchors is not None
    small = tuple(tuple((w / 2, h / 2) for w, h in scale) for scale in spec.anchors)
    with torch.device("meta"):
        state = {k: v.shape for k, v in build_model("v7", 3).state_dict().items() if k.startswith(("0.", "105."))}
    weights = {key: torch.zeros(shape) for key, shape in state.items()}
    bundle = ModelBundle(replace(spec, anchors=small).to_dict(), weights, NAMES)
    torch.save({BUNDLE_KEY: bundle.to_dict()}, tmp_path / "v7.ckpt")
    with caplog.at_level(logging.INFO, logger="yolo"):
        pretrained.start_from(
            str(tmp_path / "v7.ckpt"), spec, num_classes=3, image_size=(64, 64), class_names=NAMES, force=True
        )
    assert "was trained with other anchor boxes than v7 has here" in notes(caplog)[0]


def test_false_and_null_train_from_scratch() -> None:
    for value in ("false", "null"):
        cli = make_cli([f"--model.weight_path={value}", "--trainer.logger=false", "--trainer.accelerator=cpu"])
        assert not cli.model.config.weight_path
    assert YOLOModule(model_config="v9-t").config.transfer_classes


def test_the_help_tells_of_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        make_cli(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for words in ("true fetches the published weights", "let a class of the data start from", "less than half of"):
        assert words in text
    for key in ("weight_path", "transfer_classes", "force_weights", "verbose_weights"):
        assert f"--model.{key}" in text
