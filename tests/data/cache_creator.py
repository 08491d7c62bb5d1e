"""Builds caches in children that are killed: run by test_cache_crash.py, one request a line, one answer a line.

Importing takes seconds and is done once; each child is a fork of this process, which has no threads.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2

from yolo.data.cache import draft
from yolo.data.cache.build import build_cache
from yolo.data.cache.settings import CacheSettings
from yolo.data.config import DataConfig
from yolo.data.encryption.keys import Key
from yolo.data.formats import load_labels
from yolo.data.loaders import DefaultImageLoader


def build(request: dict[str, Any]) -> None:
    """Build the cache, one image in each transaction if that is asked for."""
    cv2.setNumThreads(0)
    draft._ITEMS = request.get("items", 64)
    encrypted = request.get("encrypted", False)
    config = DataConfig(root=request["root"], format="yolo", cache_labels=False, image_size=64)
    settings = replace(CacheSettings.of(config), picture_format=request.get("format", "raw"), encrypted=encrypted)
    build_cache(
        Path(request["folder"]),
        settings,
        {split: load_labels(config, split) for split in ("train", "val")},
        root=Path(request["root"]),
        loader=DefaultImageLoader(),
        key=Key(bytes(range(32))) if encrypted else None,
        workers=2,
    )


def child(request: dict[str, Any], note: int) -> None:
    """The child's whole life."""
    os.write(note, b"b")
    try:
        build(request)
    except BaseException as error:
        os.write(note, f"{type(error).__name__}: {error}".encode())
        os._exit(3)
    os._exit(0)


def serve(request: dict[str, Any]) -> dict[str, Any]:
    """Start the children, send each its signal in time, and tell how they ended."""
    children = []
    for _ in range(request.get("children", 1)):
        notes, note = os.pipe()
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            child(request, note)
        os.close(note)
        children.append((pid, notes))
    for _, notes in children:
        os.read(notes, 1)
    start = time.perf_counter()
    if "delay" in request:
        time.sleep(request["delay"])
        for pid, _ in children:
            os.kill(pid, request.get("signal", signal.SIGKILL))
    ends = []
    for pid, notes in children:
        ready, _, _ = select.select([notes], [], [], 60)
        if not ready:
            os.kill(pid, signal.SIGKILL)
        text = os.read(notes, 100_000).decode() if ready else "it hangs"
        os.close(notes)
        _, status = os.waitpid(pid, 0)
        ends.append({"code": os.waitstatus_to_exitcode(status), "text": text})
    return {"ends": ends, "seconds": time.perf_counter() - start}


if __name__ == "__main__":
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        print(json.dumps(serve(json.loads(line))), flush=True)
