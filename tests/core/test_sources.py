"""Every kind of source: what becomes a picture, what is told, and that nothing is read too early or kept too long."""

from __future__ import annotations

import contextlib
import http.server
import io
import itertools
import sys
import threading
import time
import warnings
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from yolo.core.errors import UsageError, YoloError
from yolo.core.frames import capture
from yolo.core.images import ImageError, ImageWarning
from yolo.core.read_ahead import read_ahead
from yolo.core.sources import Encoded, Remote, check_source, is_endless, iter_items, may_read_ahead, read_item

RED, GREEN = (200, 20, 20), (20, 180, 20)


def solid(color, width=32, height=24) -> np.ndarray:
    return np.full((height, width, 3), color, np.uint8)


def pictures(source, **options):
    return [read_item(item) for item in iter_items(source, **options)]


def encoded(image: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for number in range(7):
        writer.write(solid((30 * number, 60, 120), 64, 48)[..., ::-1])
    writer.release()
    return path


@pytest.fixture
def site(tmp_path):
    """A server on the loopback: /a.png, a page, /clip.avi, and /live.mjpg, a stream of JPEGs that does not end."""
    (tmp_path / "site").mkdir()
    seen: list[str | None] = []
    files = {"/a.png": ("image/png", encoded(solid(RED))), "/page": ("text/html", b"<html>no picture</html>")}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/live.mjpg":
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                data = encoded(solid(GREEN, 64, 48), "JPEG")
                try:
                    for _ in range(200):
                        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                        self.wfile.write(head.encode() + data + b"\r\n")
                except OSError:
                    pass
                return
            if self.path == "/slow":
                self.send_response(200)
                self.end_headers()
                with contextlib.suppress(OSError):
                    for _ in range(400):
                        self.wfile.write(b"\xff\xd8" * 1000)
                        time.sleep(0.01)
                return
            seen.append(self.headers.get("Authorization"))
            kind, data = files.get(self.path, ("", b""))
            self.send_response(200 if data else 404)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield SimpleNamespace(url=f"http://127.0.0.1:{server.server_port}", files=files, logins=seen)
    server.shutdown()
    server.server_close()
    thread.join(5)


def test_a_video_is_its_frames_in_rgb(video) -> None:
    found = pictures(video)
    assert [(one.frame, one.path) for one in found] == [(number, video) for number in range(7)]
    for number, one in enumerate(found):
        assert one.image.shape == (48, 64, 3)
        assert np.abs(one.image.reshape(-1, 3).mean(0) - [30 * number, 60, 120]).max() < 12
    assert [frame.rate for frame in capture(video)] == [10.0] * 7


def test_only_one_frame_is_read_at_a_time(video) -> None:
    frames = capture(video)
    assert [frame.number for frame in itertools.islice(frames, 2)] == [0, 1]
    frames.close()  # releases the file


@pytest.mark.parametrize("name", ["missing.mp4", "damaged.mp4"])
def test_a_video_that_cannot_be_opened_is_named(tmp_path, name) -> None:
    (tmp_path / "damaged.mp4").write_bytes(b"no video" * 100)
    with pytest.raises(YoloError, match=name):
        pictures(tmp_path / name)


def test_a_camera_that_is_not_there_is_named() -> None:
    with pytest.raises(YoloError, match="camera 97"):
        pictures("97")
    assert is_endless("97") and is_endless("rtsp://camera.local/1") and not is_endless("a.mp4")


def test_a_folder_with_a_number_for_a_name_is_a_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "a.png").write_bytes(encoded(solid(RED)))
    assert not is_endless("0")
    assert len(pictures("0")) == 1


def test_patterns_and_lists(tmp_path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.png", "a.PNG", "deep/c.png"):
        (tmp_path / name).write_bytes(encoded(solid(RED)))
    (tmp_path / "notes.md").write_text("x")
    matched = pictures(str(tmp_path / "**" / "*"))
    assert [one.path.name for one in matched] == ["a.PNG", "b.png", "c.png"]
    with pytest.raises(YoloError, match=r"no image or video matches"):
        pictures(str(tmp_path / "*.jpg"))
    listing = tmp_path / "list.txt"
    listing.write_text(f"# mine\nb.png\n\ndeep/c.png\n{tmp_path / 'a.PNG'}\n")
    assert [one.path.name for one in pictures(listing)] == ["b.png", "c.png", "a.PNG"]
    for text, message in (("\n# nothing\n", "lists no picture"), ("-\n", "standard input")):
        listing.write_text(text)
        with pytest.raises(YoloError, match=message):
            pictures(listing)


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path) -> None:
    (tmp_path / "shot[1].png").write_bytes(encoded(solid(RED)))
    assert len(pictures(tmp_path / "shot[1].png")) == 1


@pytest.mark.parametrize("kind", ["picture", "list", "nothing"])
def test_standard_input(tmp_path, monkeypatch, kind) -> None:
    (tmp_path / "a.png").write_bytes(encoded(solid(GREEN)))
    monkeypatch.chdir(tmp_path)
    data = {"picture": encoded(solid(RED), "JPEG"), "list": b"a.png\na.png\n", "nothing": b""}[kind]
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    if kind == "nothing":
        with pytest.raises(YoloError, match="empty"):
            pictures("-")
        return
    found = pictures("-")
    assert [one.source for one in found] == (["standard input"] if kind == "picture" else ["a.png", "a.png"])


def test_an_address_is_fetched_when_it_is_read(site) -> None:
    (item,) = iter_items(f"{site.url}/a.png")
    assert isinstance(item, Remote)
    found = read_item(item)
    assert (found.path, found.source) == (None, f"{site.url}/a.png")
    assert np.array_equal(found.image, solid(RED))
    for path in ("page", "missing.png"):
        with pytest.raises(YoloError, match=path):
            pictures(f"{site.url}/{path}")


def test_a_stream_is_endless_and_gives_frames(site) -> None:
    frames = iter_items(f"{site.url}/live.mjpg")
    first = [read_item(item) for item in itertools.islice(frames, 3)]
    frames.close()
    assert [one.frame for one in first] == [0, 1, 2]
    assert np.abs(first[0].image.astype(int) - GREEN).max() < 12


def test_tensors_and_bgr_arrays() -> None:
    image = solid(RED)
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    for given in (tensor, tensor.float() / 255, tensor[None]):
        (found,) = pictures(given)
        assert np.array_equal(found.image, image)
    assert len(pictures(torch.stack([tensor, tensor]))) == 2
    (swapped,) = pictures(np.ascontiguousarray(image[..., ::-1]), bgr=True)
    assert np.array_equal(swapped.image, image)
    for bad in (tensor.float(), tensor.int(), tensor[:2], torch.zeros(4, 4)):
        with pytest.raises(UsageError, match="tensor"):
            pictures(bad)


def test_a_picture_in_memory_that_is_damaged_is_named() -> None:
    with pytest.raises(ImageError, match="standard input"):
        read_item(Encoded(b"\x89PNG\r\n\x1a\nno more", "standard input"))


def test_reading_ahead_keeps_the_order_and_the_bound() -> None:
    taken, most = 0, 0
    begun = threading.Semaphore(0)

    def items():
        nonlocal taken
        for number in range(20):
            taken += 1
            yield number

    def read(number: int) -> int:
        begun.release()
        if number == 7:
            raise YoloError("seven")
        return number * number

    results, failed = [], []
    for count, get in enumerate(read_ahead(items(), read, depth=4)):
        most = max(most, taken - count)
        try:
            results.append(get())
        except YoloError as error:
            failed.append(str(error))
    assert results == [number * number for number in range(20) if number != 7]
    assert failed == ["seven"] and most <= 4
    assert begun.acquire(timeout=1)


def test_reading_ahead_ends_with_its_reader() -> None:
    before = threading.active_count()
    ahead = read_ahead(itertools.count(), lambda number: number, depth=4)
    assert [get() for get in itertools.islice(ahead, 3)] == [0, 1, 2]
    ahead.close()
    assert threading.active_count() == before


def test_a_part_that_fails_leaves_the_others(tmp_path, video) -> None:
    items = list(iter_items([tmp_path / "missing.mp4", 3.5, "97", solid(RED), str(tmp_path / "*.nothing"), video]))
    assert [isinstance(item, YoloError) for item in items] == [True, True, True, False, True] + [False] * 7
    for item, words in zip(items[:3], ("missing.mp4", "float", "camera 97"), strict=True):
        with pytest.raises(YoloError, match=words):
            read_item(item)


def test_only_files_are_read_ahead(tmp_path) -> None:
    """Two threads must not load one Pillow image, and a generator may be a camera."""
    (tmp_path / "a.png").write_bytes(encoded(solid(RED)))
    image = Image.open(tmp_path / "a.png")
    assert may_read_ahead(tmp_path) and may_read_ahead(["a.png", tmp_path / "b.png"]) and may_read_ahead("clip.mp4")
    for source in ([image, image], ["a.png", image], iter(["a.png"]), image, "0", tmp_path / "a.png"):
        assert not may_read_ahead(source)


def test_a_pattern_may_match_videos(tmp_path, video) -> None:
    (tmp_path / "a.png").write_bytes(encoded(solid(RED)))
    assert [one.frame for one in pictures(str(tmp_path / "*"))] == [None, *range(7)]


@pytest.mark.skipif(sys.platform != "linux", reason="file names of Linux")
def test_lists_of_other_systems(tmp_path) -> None:
    """A mark of the byte order, line ends of Windows, names that are not UTF-8."""
    (tmp_path / "a.png").write_bytes(encoded(solid(RED)))
    latin = tmp_path / "caf\udce9.png"
    latin.write_bytes(encoded(solid(GREEN)))
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfa.png\r\ncaf\xe9.png\r\n")
    assert [one.path for one in pictures(tmp_path / "list.txt")] == [tmp_path / "a.png", latin]


def test_a_list_that_names_itself_ends(tmp_path) -> None:
    (tmp_path / "list.txt").write_text("list.txt\n")
    with pytest.raises(YoloError, match="another list"):
        pictures(tmp_path / "list.txt")


def test_standard_input_that_is_closed_or_never_ends(monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(YoloError, match="closed"):
        pictures("-")
    monkeypatch.setattr("yolo.core.sources.LARGEST", 1000)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(bytes(5000) + b"x")))
    with pytest.raises(YoloError, match="more than"):
        pictures("-")


@pytest.mark.parametrize("name", ["", "x" * 300, "a\0b", "missing.png"])
def test_what_is_no_source_is_refused_before_anything_is_done(name) -> None:
    with pytest.raises(UsageError, match="--source"):
        check_source(name, option="--source")
    with pytest.raises(YoloError):
        pictures(name)


def test_an_address_may_be_long_and_of_a_known_kind_only() -> None:
    (item,) = iter_items("http://host/" + "x" * 600)
    assert isinstance(item, Remote)
    for address, words in (("ftp://host/a.jpg", "http://"), ("http://[bad/a.jpg", "no address")):
        with pytest.raises(UsageError, match=words):
            pictures(address)
    assert is_endless("http://host/live.MJPG?a=b") and not is_endless("http://host/a.jpg")


def test_logins_are_sent_and_never_shown(site) -> None:
    address = site.url.replace("http://", "http://me:s%40cret@")
    (found,) = pictures(f"{address}/a.png")
    assert site.logins == ["Basic bWU6c0BjcmV0"] and found.source == f"{site.url}/a.png"
    for path in ("missing.png", "missing.mp4"):
        with pytest.raises(YoloError) as caught:
            pictures(f"{address}/{path}")
        assert path in str(caught.value) and "cret" not in str(caught.value)
    with pytest.raises(YoloError) as caught:
        pictures("http://me:s%40cret@127.0.0.1:9/a.png")
    assert "cret" not in str(caught.value)


def test_an_address_may_be_written_as_people_read_it(site) -> None:
    site.files["/sch%C3%B6n%20b.png"] = site.files["/a.png"]
    assert len(pictures(f"{site.url}/schön b.png")) == len(pictures(f"{site.url}/sch%C3%B6n%20b.png")) == 1


def test_an_answer_that_never_ends_is_given_up(site, monkeypatch) -> None:
    monkeypatch.setattr("yolo.core.remote._LONGEST", 0.2)
    with pytest.raises(ImageError, match="is it a stream"):
        pictures(f"{site.url}/slow")


def test_a_video_that_breaks_off_is_told(tmp_path) -> None:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for frame in np.random.default_rng(0).integers(0, 255, (20, 48, 64, 3), np.uint8):
        writer.write(frame)
    writer.release()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(pictures(path)) == 20
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.warns(ImageWarning, match=r"clip.avi' ends after \d+ of about 20 frames"):
        assert 0 < len(pictures(path)) < 20


def test_a_tensor_of_half_precision_is_a_picture() -> None:
    for kind in (torch.bfloat16, torch.float16):
        (found,) = pictures(torch.full((3, 4, 5), 0.5, dtype=kind))
        assert (found.image == 128).all()


def test_nobody_waits_for_a_picture_that_does_not_come(monkeypatch) -> None:
    """Ctrl-C must not hang until an address is given up; and the end of Python waits for no such thread."""
    monkeypatch.setattr("yolo.core.read_ahead._PATIENCE", 0.05)
    never = threading.Event()
    ahead = read_ahead([0, 1, 2], lambda number: number if number == 0 else never.wait(30), depth=3)
    assert next(ahead)() == 0
    ahead.close()
    left = [thread for thread in threading.enumerate() if thread.name.startswith("yolo-read")]
    assert left and all(thread.daemon for thread in left)
    never.set()
    for thread in left:
        thread.join(5)
        assert not thread.is_alive()
