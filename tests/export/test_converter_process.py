"""The converter as a process: its answers, its ends, and that nothing of it stays behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from yolo.export.backends.base import ExportError
from yolo.export.converter import process
from yolo.export.converter.process import ConverterError, SavedModelProcess, convert
from yolo.export.converter.worker.errors import RefusalError
from yolo.export.converter.worker.layers import Layer, decoding_tail, matching_tensors

PYTHON = Path(sys.executable)
HEAD = """
import json, os, sys, time
job = json.loads(sys.stdin.buffer.readline())
def tell(**answer):
    print(json.dumps(answer), flush=True)
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Replace the worker by a few lines."""

    def install(text: str) -> None:
        path = tmp_path / "program.py"
        path.write_text(HEAD + text)
        monkeypatch.setattr(process, "PROGRAM", path)

    return install


def _convert(tmp_path, **options):
    return convert({"format": "tflite"}, python=PYTHON, folder=tmp_path, **options)


def test_steps_are_told_and_facts_returned(program, tmp_path):
    program("tell(step='one'); tell(step='two'); tell(done={'job': job, 'cwd': os.getcwd()})")
    steps = []
    facts = _convert(tmp_path, progress=steps.append)
    assert steps == ["one", "two"]
    assert facts == {"job": {"task": "convert", "format": "tflite"}, "cwd": str(tmp_path)}


READ = f"""
sys.path.insert(0, {str(process.PROGRAM.parent)!r})
from worker.job import _read_pictures
tell(step=str(os.getpid()))
found = _read_pictures(job["calibration"])
tell(done={{"pictures": found.tolist(), "files": os.listdir()}})
"""


def test_pictures_go_through_the_pipe_and_never_to_the_disk(program, tmp_path):
    """They may lie encrypted on the disk."""
    program(READ)
    pictures = np.random.default_rng(0).integers(0, 256, (4, 5, 2, 3), np.uint8)
    job = {"calibration": list(pictures.shape)}
    facts = convert(job, python=PYTHON, folder=tmp_path, pictures=iter(pictures[:, ::-1]))
    assert facts["pictures"] == pictures[:, ::-1].tolist()
    assert sorted(facts["files"]) == ["converter.log", "program.py"]


def test_a_picture_that_cannot_be_read_ends_the_converter(program, tmp_path):
    def pictures():
        yield np.zeros((5, 2, 3), np.uint8)
        raise ExportError("'b.jpg' is damaged")

    program(f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))" + READ)
    with pytest.raises(ExportError, match="damaged"):
        convert({"calibration": [4, 5, 2, 3]}, python=PYTHON, folder=tmp_path, pictures=pictures())
    if (tmp_path / "pid").is_file():
        _assert_gone(int((tmp_path / "pid").read_text()))


def test_a_converter_that_is_gone_takes_no_pictures(program, tmp_path):
    program("sys.exit(3)")
    with pytest.raises(ConverterError, match="ended with 3"):
        convert({}, python=PYTHON, folder=tmp_path, pictures=[np.zeros((999, 999, 3), np.uint8)] * 3)


def test_the_environment_is_that_of_the_interpreter(program, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.setenv("VIRTUAL_ENV", "/elsewhere")
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    program("tell(done={'environment': dict(os.environ), 'path': sys.path})")
    facts = _convert(tmp_path)
    assert not {"PYTHONPATH", "VIRTUAL_ENV"} & facts["environment"].keys()
    assert facts["environment"]["PATH"].split(os.pathsep)[0] == str(PYTHON.parent)
    assert facts["environment"]["TMPDIR"] == str(tmp_path), "what TensorFlow leaves there is deleted with the folder"
    assert not any(name.startswith("KERAS") for name in facts["environment"])
    assert "/somewhere" not in facts["path"] and str(tmp_path) not in facts["path"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tell(error='too many nodes')", "the conversion failed: too many nodes"),
        ("print('boom', file=sys.stderr); sys.exit(3)", "ended with 3: boom"),
        ("sys.exit(4)", "ended with 4: it said nothing"),
        ("os.kill(os.getpid(), 9)", "ran out of memory"),
    ],
)
def test_failures_are_one_line(program, tmp_path, text, words):
    program(text)
    with pytest.raises(ConverterError) as raised:
        _convert(tmp_path)
    assert words in str(raised.value) and "\n" not in str(raised.value)


def test_an_interpreter_that_is_not_there(tmp_path):
    with pytest.raises(ConverterError, match="cannot start the converter with '/nowhere/python'"):
        convert({}, python=Path("/nowhere/python"), folder=tmp_path)


CHILD = "import subprocess; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"


def test_too_long_is_ended_with_its_children(program, tmp_path):
    program(CHILD + f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid)); time.sleep(60)")
    started = time.monotonic()
    with pytest.raises(ConverterError, match="did not finish in 2 seconds; set YOLO_CONVERTER_TIMEOUT"):
        _convert(tmp_path, timeout=2)
    assert time.monotonic() - started < 30
    _assert_gone(int((tmp_path / "pid").read_text()))


def test_an_interruption_ends_it(program, tmp_path):
    program("tell(step=str(os.getpid())); time.sleep(60)")
    seen = []

    def interrupt(step):
        seen.append(int(step))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _convert(tmp_path, progress=interrupt)
    _assert_gone(seen[0])


def _assert_gone(pid: int) -> None:
    """A process that was killed may still wait to be collected by whoever adopted it."""
    for _ in range(100):
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return
        time.sleep(0.05)
    raise AssertionError(f"process {pid} is still there")


@pytest.mark.parametrize("text", ["soon", "-1", "0", "nan"])
def test_a_time_limit_that_is_no_time(tmp_path, monkeypatch, text):
    monkeypatch.setenv("YOLO_CONVERTER_TIMEOUT", text)
    with pytest.raises(ConverterError, match="YOLO_CONVERTER_TIMEOUT"):
        _convert(tmp_path)


def test_the_worker_itself_tells_what_is_missing(tmp_path):
    """Without TensorFlow it gets as far as importing it, and answers all the same."""
    if worker_has_tensorflow():
        pytest.skip("TensorFlow is installed here")
    with pytest.raises(ConverterError, match=r"has no module 'onnx2tf'; install 'yolo-export\[tflite\]' there"):
        _convert(tmp_path)


def worker_has_tensorflow() -> bool:
    from importlib.util import find_spec

    return find_spec("onnx2tf") is not None


@pytest.fixture
def with_onnx2tf(tmp_path):
    """Start the real worker with an onnx2tf of a few lines, and a job; its input stays open."""
    started = []

    def start(text: str) -> subprocess.Popen[bytes]:
        (tmp_path / "onnx2tf.py").write_text(text)
        pipe = subprocess.PIPE
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}  # not -I, which would not look there
        running = subprocess.Popen(
            [sys.executable, process.PROGRAM], stdin=pipe, stdout=pipe, stderr=pipe, cwd=tmp_path, env=environment
        )
        started.append(running)
        running.stdin.write(json.dumps({"task": "convert", "format": "tflite"}).encode() + b"\n")
        running.stdin.flush()
        assert json.loads(running.stdout.readline()) == {"step": "loading TensorFlow"}
        return running

    yield start
    for running in started:
        running.kill()
        running.communicate()


def test_the_worker_ends_when_its_starter_is_gone(with_onnx2tf):
    """It waits in an import that never ends; the end of its input ends it."""
    running = with_onnx2tf("import time; time.sleep(60)")
    running.stdin.close()
    running.stdin = None
    assert running.wait(timeout=30) == 1


@pytest.mark.parametrize("call", ["create_connection(('127.0.0.1', 9), 1)", "getaddrinfo('example.com', 80)"])
def test_the_worker_reaches_no_network(with_onnx2tf, call):
    running = with_onnx2tf(f"import socket; socket.{call}")
    assert "reach the network" in json.loads(running.stdout.readline())["error"]


SERVER = """
tell(ready={"shape": [1, 2, 2, 3]})
import struct
while line := sys.stdin.buffer.readline():
    shape = json.loads(line)["shape"]
    size = 4
    for side in shape:
        size *= side
    data = sys.stdin.buffer.read(size)
    if data[:4] == struct.pack("f", 7):
        sys.exit(5)
    if data[:4] == struct.pack("f", 8):
        tell(error="no eights")
        continue
    tell(shape=[shape[0], shape[1] * shape[2] * shape[3]])
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
"""


def test_a_saved_model_stays_for_many_calls(program, tmp_path):
    program(SERVER)
    with SavedModelProcess(tmp_path, python=PYTHON) as running:
        assert running.shape == [1, 2, 2, 3]
        for number in range(5):
            images = np.arange(12, dtype=np.float32).reshape(1, 2, 2, 3) + number / 4
            np.testing.assert_array_equal(running.predict(images), images.reshape(1, 12))
        with pytest.raises(ConverterError, match="no eights"):
            running.predict(np.full((1, 2, 2, 3), 8, np.float32))
        with pytest.raises(ConverterError, match="ended with 5"):
            running.predict(np.full((1, 2, 2, 3), 7, np.float32))
        pid = running._process.pid
    _assert_gone(pid)


def test_a_saved_model_that_does_not_load(program, tmp_path):
    program("tell(error='no signature')")
    with pytest.raises(ConverterError, match="cannot be loaded: no signature"):
        SavedModelProcess(tmp_path, python=PYTHON)


def test_a_saved_model_process_ends_with_its_object(program, tmp_path):
    program(SERVER)
    running = SavedModelProcess(tmp_path, python=PYTHON)
    pid = running._process.pid
    del running
    _assert_gone(pid)


LAYERS = [
    Layer("CONV_2D", ["images", "w"], ["conv"]),
    Layer("LOGISTIC", ["conv"], ["scores"]),
    Layer("SOFTMAX", ["conv"], ["soft"]),
    Layer("CONV_2D", ["soft", "bins"], ["means"]),
    Layer("CONCATENATION", ["means", "scores"], ["output"]),
]


def test_the_tail_begins_with_the_softmax():
    assert decoding_tail(LAYERS) == ["means", "output", "soft"]


def test_without_a_softmax_the_tail_is_what_no_convolution_follows():
    layers = [
        Layer("LOGISTIC", ["images"], ["early"]),
        Layer("CONV_2D", ["early", "w"], ["conv"]),
        Layer("LOGISTIC", ["conv"], ["sigmoid"]),
        Layer("MUL", ["sigmoid", "anchors"], ["output"]),
    ]
    assert decoding_tail(layers) == ["output", "sigmoid"]


def test_layers_to_keep_are_found_by_pattern_and_with_their_activation():
    layers = [
        Layer("CONV_2D", ["images", "w"], ["conv"]),
        Layer("LOGISTIC", ["conv"], ["sigmoid"]),
        Layer("MUL", ["conv", "sigmoid"], ["silu"]),
        Layer("CONV_2D", ["silu", "w"], ["next"]),
    ]
    names = {"conv": "network.layers.0.conv", "next": "network.layers.1.conv"}
    assert matching_tensors(layers, names, ["*.0.*"]) == ["conv", "sigmoid", "silu"]
    assert matching_tensors(layers, names, ["*.1.*", "*.0.*"]) == ["conv", "next", "sigmoid", "silu"]
    assert matching_tensors(layers, names, []) == []
    with pytest.raises(RefusalError, match=r"'x\*' matches no layer; they have names such as 'network.layers.0"):
        matching_tensors(layers, names, ["x*"])
