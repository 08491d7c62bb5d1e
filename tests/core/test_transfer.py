"""Class rows move with their class, in every kind of head; everything else loads as it is, and the table says so."""

from __future__ import annotations

import pytest
import torch

from yolo.core.models.build import build_model
from yolo.core.models.class_width import ClassWidth
from yolo.core.models.fuse import fuse
from yolo.core.models.spec import load_spec, parse_spec, zoo_names
from yolo.core.weights.class_layers import class_layer
from yolo.core.weights.coco import assumed_names, coco_names
from yolo.core.weights.file import WeightsError
from yolo.core.weights.transfer import load_weights

BODY = [
    {"Conv": {"args": {"out_channels": 8, "kernel_size": 3, "stride": 2}, "source": 0}},
    {"AConv": {"args": {"out_channels": 8}}},
    {"AConv": {"args": {"out_channels": 16}, "tags": "P3"}},
    {"AConv": {"args": {"out_channels": 16}, "tags": "P4"}},
    {"AConv": {"args": {"out_channels": 16}, "tags": "P5"}},
]
HEAD = {"source": ["P3", "P4", "P5"]}
FREE = {
    "name": "free",
    "class_width": 16,
    "backbone": BODY,
    "detection": [{"MultiheadDetection": {**HEAD, "tags": "Main"}}],
    "auxiliary": [{"MultiheadDetection": {**HEAD, "tags": "AUX"}}],
}
ANCHORED = {
    "name": "anchored",
    "anchor": {"anchor": [[8, 8, 16, 8], [32, 16, 16, 32], [64, 64, 99, 60]]},  # two boxes per cell
    "backbone": BODY,
    "detection": [{"MultiheadDetection": {**HEAD, "args": {"version": "v7"}, "tags": "Main"}}],
}


def pocket(kind: dict, classes: int, *, seed: int = 0):
    torch.manual_seed(seed)
    network = build_model(parse_spec(kind, "pocket.yaml"), classes)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_()
    return network


def rows(network, *, index: int | None = None) -> dict[str, torch.Tensor]:
    """Every class layer as [groups, rows, ...]; ``index`` picks the class, None the rows in front of the classes."""
    found = {}
    for key, value in network.state_dict().items():
        layer = class_layer(key)
        if layer is not None:
            value = value.movedim(layer.dim, 0)
            groups = layer.groups(len(value), network.num_classes)
            value = value.reshape(groups, layer.lead + network.num_classes, *value.shape[1:])
            found[key] = value[:, : layer.lead] if index is None else value[:, layer.lead + index]
    assert found
    return found


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


kinds = pytest.mark.parametrize("kind", [FREE, ANCHORED], ids=["free", "anchored"])


@pytest.mark.parametrize("name", zoo_names())
def test_what_depends_on_the_number_of_classes_is_a_class_layer(name):
    spec = load_spec(name).with_class_width(ClassWidth.fixed(256))
    with torch.device("meta"):
        three, seven = (build_model(spec, classes).state_dict() for classes in (3, 7))
    assert {k for k in three if three[k].shape != seven[k].shape} == {k for k in three if class_layer(k)}


@kinds
def test_the_same_names_in_another_order_are_put_in_order(kind):
    source, network = pocket(kind, 3), pocket(kind, 3, seed=1)
    report = load_weights(network, source.state_dict(), class_names=["c", "A", "b "], file_class_names=["a", "b", "C"])
    assert report.complete and report.carried == ("c", "A", "b ")
    for here, there in ((0, 2), (1, 0), (2, 1)):
        assert same(rows(network, index=here), rows(source, index=there))
    assert same(rows(network), rows(source)), "boxes and objectness are of no class"
    assert "class rows          3 of 3  carried over by name from 3 in the file" in report.table()


@kinds
def test_a_subset_keeps_its_rows_and_new_classes_stay_fresh(kind):
    source, network, fresh = pocket(kind, 80), pocket(kind, 3, seed=1), pocket(kind, 3, seed=1)
    report = load_weights(
        network, source.state_dict(), class_names=["helmet", "Person", "dog"], file_class_names=coco_names()
    )
    assert report.carried == ("Person", "dog") and not report.complete
    assert set(report.reinitialised) == set(rows(network)), "not wholly from the file"
    assert same(rows(network, index=0), rows(fresh, index=0))
    assert same(rows(network, index=1), rows(source, index=0))
    assert same(rows(network, index=2), rows(source, index=16))
    assert same(rows(network), rows(source))


def test_all_of_few_classes_is_complete():
    source, network = pocket(FREE, 80), pocket(FREE, 1)
    report = load_weights(network, source.state_dict(), class_names=["person"], file_class_names=coco_names())
    assert report.complete and not report.reinitialised


@kinds
@pytest.mark.parametrize(
    ("here", "there", "by_name"),
    [
        (None, "ab", True),
        ("ab", None, True),
        ("01", "ab", True),
        ("ba", "01", True),
        ("xy", "abc", True),
        ("ba", "ab", False),
    ],
)
def test_without_names_equal_numbers_of_classes_are_copied_in_order(kind, here, there, by_name):
    """Names on one side only, mere numbers, names that are not one per class, or names that nobody asks for."""
    source, network = pocket(kind, 2), pocket(kind, 2, seed=1)
    report = load_weights(network, source.state_dict(), class_names=here, file_class_names=there, by_name=by_name)
    assert report.complete and not report.carried
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in network.state_dict().items())
    assert "2 of 2  taken over in order" in report.table()


@kinds
def test_without_names_other_numbers_of_classes_start_fresh(kind):
    source, network, fresh = pocket(kind, 5), pocket(kind, 2, seed=1), pocket(kind, 2, seed=1)
    report = load_weights(network, source.state_dict(), class_names=["a", "b"])
    assert set(report.reinitialised) == set(rows(network)) and not report.carried
    for index in range(2):
        assert same(rows(network, index=index), rows(fresh, index=index))
    assert same(rows(network), rows(source)), "boxes and objectness of a head with anchors are copied all the same"
    assert "class rows          0 of 2  fresh: 5 classes in the file" in report.table()


def test_equal_lists_are_taken_as_they_are_even_with_a_name_twice():
    source, network = pocket(FREE, 3), pocket(FREE, 3, seed=1)
    names = ["a", "a", "b"]
    assert load_weights(network, source.state_dict(), class_names=names, file_class_names=names).complete
    assert same(rows(network, index=1), rows(source, index=1))


def test_renamed_classes_start_fresh_unless_names_do_not_count():
    source = pocket(FREE, 2).state_dict()
    names = {"class_names": ["a", "b"], "file_class_names": ["x", "y"]}
    assert len(load_weights(pocket(FREE, 2), source, **names).reinitialised) == 12
    assert load_weights(pocket(FREE, 2), source, **names, by_name=False).complete


def test_other_widths_and_damaged_class_layers_stay_fresh():
    source = pocket(FREE, 3).state_dict()
    key = "5.heads.0.class_conv.2"
    source[f"{key}.weight"] = torch.zeros(3, 99, 1, 1)
    source[f"{key}.bias"] = torch.zeros(())
    report = load_weights(pocket(FREE, 3), source)
    assert set(report.reinitialised) == {f"{key}.weight", f"{key}.bias"}
    assert "re-initialised      2 tensors  class layers" in report.table()


def test_the_table_counts_and_names():
    source, network = pocket(FREE, 5), pocket(FREE, 2)
    state = {key: value for key, value in source.state_dict().items() if not key.startswith("6.")}
    state |= {"7.conv.weight": torch.ones(1), "7.conv.bias": torch.ones(1)}
    report = load_weights(network, state, class_names=["a", "b"], file_class_names="abcde")
    auxiliary = sum(key.startswith("6.") for key in network.state_dict())
    whole = len(network.state_dict()) - auxiliary
    assert report.table().splitlines() == [
        f"  loaded         {whole:>6} tensors",
        "  re-initialised      0 tensors",
        f"  missing        {auxiliary:>6} tensors  in the auxiliary branch, which only training needs",
        "  unexpected          2 tensors  not in this network",
        "  class rows          2 of 2  carried over by name from 5 in the file",
    ]
    long = report.table(verbose=True)
    assert f"      layer 6: all {auxiliary} tensors" in long and "      layer 7: all 2 tensors" in long
    assert "      layer 0: all 6 tensors" in long and long.endswith("      a\n      b")


def test_less_than_half_is_an_error_that_names_the_network_unless_forced():
    torch.manual_seed(0)
    tiny = build_model("v9-t").state_dict()
    network = build_model("v9-s", 3)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(WeightsError, match=r"only \d+% of the parameters of 'v9-s' are in 't\.pt'.*fit 'v9-t'"):
        load_weights(network, tiny, source="t.pt")
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items()), "nothing was changed"
    report = load_weights(network, tiny, force=True)
    assert report.loaded and report.reinitialised
    assert all(torch.equal(network.state_dict()[key], tiny[key]) for key in report.loaded)


def test_fused_weights_are_no_start_of_a_training():
    network = pocket(FREE, 3)
    with pytest.raises(WeightsError, match=r"f\.pt.*fused.*start from the file they were made from"):
        load_weights(network, fuse(network.eval()).state_dict(), source="f.pt")


def test_types_and_frozen_parameters_stay():
    source = {key: value.half() for key, value in pocket(FREE, 3).state_dict().items()}
    network = pocket(FREE, 2).double()
    kept = {key: parameter.requires_grad for key, parameter in network.named_parameters()}
    report = load_weights(network, source, class_names="ab", file_class_names="bca")
    assert report.complete
    assert {value.dtype for value in network.parameters()} == {torch.float64}
    assert {key: parameter.requires_grad for key, parameter in network.named_parameters()} == kept
    key = "5.heads.0.class_conv.2.bias"
    assert torch.equal(network.state_dict()[key], source[key][[2, 0]].double())


def test_coco_has_eighty_names(reference, datasets):
    import json

    listed = json.loads((datasets / "tiny-coco" / "annotations" / "instances_val.json").read_text())["categories"]
    assert coco_names() == tuple(entry["name"] for entry in sorted(listed, key=lambda entry: entry["id"]))


def test_eighty_unnamed_classes_are_cocos_unless_order_says_more():
    names = coco_names()
    assert len(set(names)) == 80 and assumed_names(80) == names and assumed_names(79) is None
    assert assumed_names(80, wanted=["person"]) == names
    assert assumed_names(80, wanted=names) == names
    assert assumed_names(80, wanted=names[::-1]) == names, "the same classes in another order"
    older = ["motorbike" if name == "motorcycle" else name for name in names]
    assert assumed_names(80, wanted=older) is None, "an older spelling, at the same place"
    assert assumed_names(80, wanted=[f"part {n}" for n in range(80)]) is None, "eighty classes of one's own"
