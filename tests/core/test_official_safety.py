"""Files that want to do something: none does, and the error names what was refused."""

from __future__ import annotations

import builtins
import os
import pickle
import random
import struct
import sys
import types
import zipfile
from pathlib import Path

import pytest
import torch

from yolo.core.weights.file import WeightsError, read_weight_file
from yolo.core.weights.foreign import Inert, load_inert, module_state
from yolo.core.weights.read import read_weights

GOOD = {"0.conv.weight": torch.arange(6.0).view(2, 3)}


class Call:
    """Unpickling this calls a function."""

    def __init__(self, function, *arguments, state=None):
        self.value = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.value


def archive(path: Path, data: bytes, *, storage: bytes = b"", packed: bool = False) -> Path:
    """A file in torch's format around any pickle."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as file:
        file.writestr("archive/data.pkl", data)
        file.writestr("archive/byteorder", "little")
        file.writestr("archive/data/0", storage)
        file.writestr("archive/version", "3\n")
    return path


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def pickled(body: bytes) -> bytes:
    return b"\x80\x02" + body + b"."


def tensor(size: bytes, stride: bytes, *, stored: int = 4) -> bytes:
    """A tensor of floats over storage 0; sizes and strides as pickled tuples."""
    count = b"J" + struct.pack("<i", stored)
    place = b"(" + text("storage") + name("torch", "FloatStorage") + text("0") + text("cpu") + count + b"tQ"
    return name("torch._utils", "_rebuild_tensor_v2") + b"(" + place + b"K\x00" + size + stride + b"\x89" + b"}tR"


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """A module ``models.evil`` on the path, each part of which leaves the returned file behind."""
    proof = tmp_path / "proof"
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("")
    (tmp_path / "models" / "evil.py").write_text(f"import os\nos.mkdir({str(proof)!r})\n")
    monkeypatch.syspath_prepend(tmp_path)
    return proof


CALLS = {
    "posix.system": lambda proof: Call(os.system, f"mkdir {proof}"),
    "posix.mkdir": lambda proof: Call(os.mkdir, str(proof)),
    "builtins.eval": lambda proof: Call(eval, f"__import__('os').mkdir({str(proof)!r})"),
    "builtins.exec": lambda proof: Call(exec, f"import os; os.mkdir({str(proof)!r})"),
    "builtins.getattr": lambda proof: Call(getattr, Path(proof), "mkdir"),
    "builtins.__import__": lambda proof: Call(builtins.__import__, "models.evil"),
    "torch.serialization.load": lambda proof: Call(torch.load, str(proof)),
    "runpy.run_path": lambda proof: Call(__import__("runpy").run_path, str(proof)),
    "subprocess.Popen": lambda proof: Call(__import__("subprocess").Popen, ["mkdir", str(proof)]),
    "functools.partial": lambda proof: Call(__import__("functools").partial, os.mkdir, str(proof)),
}


@pytest.mark.parametrize("place", ["alone", "beside weights", "inside a module", "old format", "protocol 4"])
@pytest.mark.parametrize("refused", CALLS)
def test_calls_are_refused_by_name(tmp_path, trap, monkeypatch, refused, place):
    path, evil = tmp_path / "w.pt", CALLS[refused](trap)
    content = evil if place == "alone" else {"evil": evil, "model": GOOD}
    options = {"pickle_protocol": 4} if place == "protocol 4" else {}
    if place == "inside a module":
        foreign = types.ModuleType("models.yolo")
        foreign.Detect = type("Detect", (torch.nn.Module,), {"__module__": "models.yolo"})
        monkeypatch.setitem(sys.modules, "models.yolo", foreign)
        content = {"model": foreign.Detect()}
        content["model"].criterion = evil
    torch.save(content, path, _use_new_zipfile_serialization=place != "old format", **options)
    monkeypatch.delitem(sys.modules, "models.yolo", raising=False)
    with pytest.raises(WeightsError) as caught:
        read_weights(path)
    message = str(caught.value).replace("'commands.Popen'", "'subprocess.Popen'")  # its name in protocol 2
    assert f"'{refused}'" in message and "w.pt' is refused" in message and "\n" not in message
    assert "Nothing of it was run" in message
    assert not trap.exists() and "models.evil" not in sys.modules


FOREIGN = name("models.evil", "Evil")
STATE = b"}" + text("x") + b"K\x01s"


@pytest.mark.parametrize(
    "body",
    [
        FOREIGN + b")R",  # call
        FOREIGN + b")\x81",  # make an object
        FOREIGN + b")\x81" + STATE + b"b",  # make, and fill
        FOREIGN + b")\x81N" + STATE + b"\x86b",  # fill slots
        FOREIGN + b")\x81N}" + text("__class__") + name("models.evil", "Worse") + b"s\x86b",
        FOREIGN + b")\x81}" + text("__setstate__") + name("models.evil", "Worse") + b"sb" + STATE + b"b",
        FOREIGN + b"(" + text("mkdir x") + b"tR" + STATE + b"b",
        name("numpy.f2py", "compile") + b"(" + text("x") + b"tR",
        name("utils.general", "check_requirements") + b"(" + text("evil") + b"tR",
        name("torch.nn.modules.module", "register_module_forward_hook") + b"(" + FOREIGN + b"tR",
    ],
)
def test_foreign_names_stay_dead_whatever_is_done_to_them(tmp_path, trap, body):
    path = archive(tmp_path / "w.pt", pickled(b"}" + text("model") + body + b"s"))
    content = read_weight_file(path)
    assert isinstance(content["model"], Inert) and type(content["model"]).__mro__[1:] == (Inert, object)
    with pytest.raises(WeightsError, match=r"w\.pt' holds no weights by layer index|is no network"):
        read_weights(path)
    assert not trap.exists() and "models.evil" not in sys.modules


@pytest.mark.parametrize(
    "body",
    [
        name("torch._utils", "_rebuild_tensor_v2") + STATE + b"b",  # fill a function
        FOREIGN + STATE + b"b",  # fill a class
        FOREIGN + b")\x81)R",  # call an object
        FOREIGN + b"(K\x01e",  # add to a class
        b"(" + FOREIGN + b"o",
        b"(imodels.evil\nEvil\n",
        text("models.evil") + text("Evil") + b"\x93",
        b"\x82\x01",
        name("models.evil", "Evil") + b"Q",
        name("pathlib", "os.mkdir") + b"(" + text("x") + b"tR",
        b"(" + text("module") + FOREIGN + text("evil.py") + text("import os") + b"tQ",
        name("models.evil", "Evil") + b")\x92",
    ],
)
def test_other_operations_of_pickles_are_refused(tmp_path, trap, body):
    path = archive(tmp_path / "w.pt", pickled(b"}" + text("model") + body + b"s"))
    with pytest.raises(WeightsError, match=r"w\.pt' is (refused|damaged)") as caught:
        read_weight_file(path)
    assert "\n" not in str(caught.value)
    assert not trap.exists() and "models.evil" not in sys.modules


def test_a_pickle_inside_a_tensor_is_only_numbers(tmp_path):
    proof = tmp_path / "proof"
    evil = pickle.dumps(Call(os.mkdir, str(proof)), protocol=2)
    torch.save({"0.conv.weight": torch.frombuffer(bytearray(evil), dtype=torch.uint8)}, tmp_path / "w.pt")
    assert bytes(read_weights(tmp_path / "w.pt").state["0.conv.weight"].tolist()) == evil
    assert not proof.exists()


def test_what_a_program_has_allowed_torch_is_not_called_for_a_file(tmp_path):
    """A process may have told torch to trust a class that has the name of a foreign one."""
    called = []
    torch.serialization.add_safe_globals([(called.append, "utils.torch_utils.note")])
    before = set(torch.serialization.get_safe_globals())
    try:
        body = name("utils.torch_utils", "note") + b"(K\x01tR"
        content = read_weight_file(archive(tmp_path / "w.pt", pickled(b"}" + text("model") + body + b"s")))
        with pytest.raises(WeightsError):
            read_weights(archive(tmp_path / "bad.pt", pickled(body + name("posix", "mkdir") + b"0")))
        assert isinstance(content["model"], Inert) and not called
        assert set(torch.serialization.get_safe_globals()) == before
    finally:
        torch.serialization.clear_safe_globals()


def test_a_packed_file_is_not_unpacked(tmp_path):
    path = archive(tmp_path / "bomb.pt", bytes(50_000_000), packed=True)
    assert path.stat().st_size < 100_000
    with pytest.raises(WeightsError, match=r"bomb\.pt' is packed: it unpacks to 500000\d\d bytes"):
        read_weight_file(path)


def test_tensors_larger_than_the_file_are_refused(tmp_path):
    big = b"J" + struct.pack("<i", 2**30)
    repeated = tensor(big + b"\x85", b"K\x00\x85")
    key = text("0.conv.weight")
    path = archive(tmp_path / "w.pt", pickled(b"}" + key + repeated + b"s"), storage=bytes(16))
    with pytest.raises(WeightsError, match=r"w\.pt' asks for 4294967296 bytes of tensors and holds 16"):
        read_weights(path)
    beyond = tensor(big + b"\x85", b"K\x01\x85", stored=2**30)
    path = archive(tmp_path / "w.pt", pickled(b"}" + key + beyond + b"s"), storage=bytes(16))
    with pytest.raises(WeightsError, match=r"w\.pt' (is damaged|asks for)"):
        read_weights(path)


@pytest.mark.filterwarnings("ignore")  # torch is not fond of such tensors either
@pytest.mark.parametrize(
    "value",
    [
        torch.eye(3).to_sparse(),
        torch.empty(2, 2, device="meta"),
        "quantised",
    ],
)
def test_tensors_that_are_no_plain_numbers_are_refused(tmp_path, value):
    if isinstance(value, str):
        value = torch.quantize_per_tensor(torch.ones(2), 1, 0, torch.qint8)
    torch.save({"0.conv.weight": value}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"w\.pt' is refused: it holds a sparse, quantised or empty tensor"):
        read_weights(tmp_path / "w.pt")


def test_deep_nesting_and_doubling_end(tmp_path):
    deep = archive(tmp_path / "deep.pt", pickled(b"}" + text("model") + b"]" * 100_000 + b"a" * 99_999 + b"s"))
    with pytest.raises(WeightsError, match=r"is refused: .*deeply nested"):
        read_weights(deep)
    doubled = Inert()
    doubled.state = {"_modules": {}}
    for _ in range(60):  # 2 to the power of 60 paths
        outer = Inert()
        outer.state = {"_modules": {"0": doubled, "1": doubled}}
        doubled = outer
    with pytest.raises(ValueError, match="nested without end"):
        module_state(doubled)
    doubled.state["_modules"]["0"] = doubled
    with pytest.raises(ValueError, match="nested without end"):
        module_state(doubled)


def test_too_many_classes_are_refused(tmp_path):
    body = b"".join(name("models", f"C{number}") + b"0" for number in range(1500))
    with pytest.raises(WeightsError, match=r"w\.pt' is damaged.*names 1500 classes"):
        read_weight_file(archive(tmp_path / "w.pt", pickled(body + b"}")))


OPERATIONS = b"0()]}RQbaeotu\x81\x82\x85\x86\x87\x88\x93KJMNGchqr2X"


def test_noise_in_a_pickle_ends_in_one_line_or_in_plain_data(tmp_path):
    """Bytes changed at random: read, or refused; never another error, and nothing that is alive."""
    foreign = FOREIGN + b")\x81}" + text("_modules") + b"}" + text("0") + FOREIGN + b")\x81ss" + b"b"
    weights = text("0.conv.weight") + tensor(b"K\x02K\x02\x86", b"K\x02K\x01\x86")
    good = pickled(b"}(" + weights + text("ema") + foreign + b"u")
    path = archive(tmp_path / "w.pt", good, storage=bytes(16))
    assert set(load_inert(path)) == {"0.conv.weight", "ema"}
    chance = random.Random(0)
    refused = 0
    for _ in range(400):
        bad = bytearray(good[: chance.choice([chance.randrange(2, len(good)), len(good)])])
        for _ in range(chance.randint(0, 3)):
            bad[chance.randrange(1, len(bad))] = chance.choice([chance.randrange(256), *OPERATIONS])
        try:
            read_weights(archive(path, bytes(bad), storage=bytes(16)))
        except WeightsError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 100
