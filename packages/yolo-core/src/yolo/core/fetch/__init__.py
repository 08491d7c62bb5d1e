"""Fetching a file over HTTP so that any interruption costs no more than it must; nothing here knows about models."""

from __future__ import annotations

from yolo.core.fetch.lock import process_lock
from yolo.core.fetch.opener import SCHEMES
from yolo.core.fetch.replies import FetchError
from yolo.core.fetch.transfer import Patience, Progress, discard, fetch

__all__ = ["SCHEMES", "FetchError", "Patience", "Progress", "discard", "fetch", "process_lock"]
