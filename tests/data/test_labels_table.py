"""LabelTable: slices, crowds, ids, fingerprints, and one copy for all workers."""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import os
import pickle
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from yolo.data.labels import LabelTable
from yolo.data.packed import PackedStrings


def make_table(root: str = "/data/set", *, foreign: bool = False) -> LabelTable:
    """Three images: two boxes and a crowd, none, one box over the edge."""
    return LabelTable(
        class_names=("a", "b"),
        category_ids=(3, 90),
        paths=PackedStrings.pack([f"{root}/x.jpg", f"{root}/sub/ÿ\udce9.jpg", f"{root}/z.jpg"]),
        sizes=np.array([[100, 50], [10, 20], [64, 64]], np.int32),
        offsets=np.array([0, 3, 3, 4], np.int64),
        boxes=np.array([[1, 2, 11, 22], [0, 0, 100, 50], [5, 5, 6, 6.5], [-0.5, 0, 64.5, 64]], np.float32),
        labels=np.array([0, 1, 1, 0]),
        crowd=np.array([False, True, False, False]),
        area=np.array([200, 5000, 1.5, 4000], np.float32),
        image_ids=np.array([7, 5, 2**40]),
        foreign_ids=PackedStrings.pack(['"one"', '"two"', "18446744073709551617"]) if foreign else None,
    )


def test_targets_leave_crowds_out_and_stay_inside() -> None:
    table = make_table()
    np.testing.assert_array_equal(table.targets(0).boxes, [[1, 2, 11, 22], [5, 5, 6, 6.5]])
    np.testing.assert_array_equal(table.targets(0).labels, [0, 1])
    assert len(table.targets(1)) == 0
    np.testing.assert_array_equal(table.targets(2).boxes, [[0, 0, 64, 64]])
    assert table.targets(2).boxes.dtype == np.float32


def test_truth_keeps_everything_as_it_is() -> None:
    truth = make_table().truth(0)
    assert truth.crowd.tolist() == [False, True, False]
    assert truth.area.tolist() == [200, 5000, 1.5]
    assert make_table().truth(2).boxes[0, 0] == -0.5


def test_paths_and_sizes() -> None:
    table = make_table()
    assert len(table) == 3
    assert table.path(1) == "/data/set/sub/ÿ\udce9.jpg"
    assert table.paths[-1] == table.path(2)
    assert table.size(0) == (100, 50)
    with pytest.raises(IndexError):
        table.path(3)


def test_coco_ground_truth() -> None:
    truth = make_table().coco_ground_truth()
    assert [image["id"] for image in truth["images"]] == [7, 5, 2**40]
    assert truth["images"][0]["width"] == 100
    assert truth["categories"] == [{"id": 3, "name": "a"}, {"id": 90, "name": "b"}]
    assert truth["annotations"][0] == {
        "id": 1,
        "image_id": 7,
        "category_id": 3,
        "bbox": [1, 2, 10, 20],
        "area": 200,
        "iscrowd": 0,
    }
    assert [item["iscrowd"] for item in truth["annotations"]] == [0, 1, 0, 0]
    assert truth["annotations"][3]["image_id"] == 2**40


def test_foreign_ids() -> None:
    assert make_table().image_id(2) == 2**40
    table = make_table(foreign=True)
    assert [table.image_id(index) for index in range(3)] == ["one", "two", 2**64 + 1]


def test_select() -> None:
    table = make_table(foreign=True).select(np.array([2, 0, 0]))
    assert len(table) == 3
    assert table.offsets.tolist() == [0, 1, 4, 7]
    assert table.image_ids.tolist() == [2**40, 7, 7]
    assert table.image_id(1) == "one"
    np.testing.assert_array_equal(table.targets(1).boxes, make_table().targets(0).boxes)
    assert len(make_table().select(np.array([], np.intp))) == 0


def test_fingerprint_follows_the_contents_only() -> None:
    table = make_table()
    assert table.fingerprint() == make_table("/elsewhere/moved").fingerprint()
    others = [
        replace(table, class_names=("a", "c")),
        replace(table, boxes=table.boxes + 1),
        replace(table, labels=1 - table.labels),
        replace(table, crowd=~table.crowd),
        replace(table, paths=PackedStrings.pack(["/data/set/y.jpg", "/data/set/sub/ÿ.jpg", "/data/set/z.jpg"])),
        make_table(foreign=True),
    ]
    assert len({other.fingerprint() for other in [table, *others]}) == 1 + len(others)


@pytest.mark.parametrize(
    "paths",
    [
        ["/data/set/a.jpg", "/data/set/sub/ÿ.jpg", "/data/set/z.jpg"],
        ["/data/set/sub/a.jpg", "/data/set/sub2/a.jpg"],  # the names have more in common than the folders
        ["/data/set/aa.jpg", "/data/set/aab.jpg"],
        ["/data/set/a", "/data/set/a/b"],
        ["/data/only.jpg"],
        ["/a.jpg", "/sub/b.jpg"],
        ["/a.jpg"],
        ["/d/\udcff.jpg", "/d/é/\udcfe.jpg"],
        [],
    ],
)
def test_paths_below_the_folder_that_they_share(paths: list[str]) -> None:
    folder = len(os.path.commonpath([str(Path(path).parent) for path in paths])) if paths else 0
    wanted = b"".join(os.fsencode(path[folder:]) + b"\0" for path in paths)
    assert PackedStrings.pack(paths).below_common_folder() == wanted


def test_arrays_are_read_only() -> None:
    with pytest.raises(ValueError, match="read-only"):
        make_table().boxes[0, 0] = 3


def test_pickle() -> None:
    for foreign in (False, True):
        table = make_table(foreign=foreign)
        copy = pickle.loads(pickle.dumps(table))
        assert copy.fingerprint() == table.fingerprint()


def test_spawned_workers_map_one_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table goes to a spawned process through a file, which is gone with the table."""
    (tmp_path / "spawned.py").write_text(
        "import numpy as np\n"
        "def work(connection, table):\n"
        "    base = table.boxes\n"
        "    while base is not None and not isinstance(base, np.memmap): base = getattr(base, 'base', None)\n"
        "    connection.send((table.fingerprint(), base is not None, len(table.targets(0)), table.image_id(0)))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    work = importlib.import_module("spawned").work
    table = make_table(foreign=True)
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs, table))
    process.start()
    assert mine.poll(120)
    assert mine.recv() == (table.fingerprint(), True, 2, "one")
    process.join(60)
    monkeypatch.delitem(sys.modules, "spawned")
    assert table._spilled is not None
    path = Path(table._spilled.path)
    assert path.stat().st_mode & 0o077 == 0  # labels may be private
    monkeypatch.setattr("yolo.data.labels.is_spawning", lambda: True)
    assert pickle.loads(pickle.dumps(table)).fingerprint() == table.fingerprint()
    assert Path(table._spilled.path) == path  # the next worker maps the same file
    del table, process
    gc.collect()
    assert not path.exists()


def test_packed_strings() -> None:
    texts = ["", "a", "ü\n", "b\udcff"]
    packed = PackedStrings.pack(texts)
    assert list(packed) == texts
    assert len(PackedStrings.pack([])) == 0
    assert list(packed.select(np.array([3, 1]))) == ["b\udcff", "a"]
