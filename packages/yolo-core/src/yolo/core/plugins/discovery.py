"""Which plugins are installed, which of them to load, and which of them claim the same name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points

from .settings import Settings, normalise
from .status import PluginRecord

ENTRY_POINT_GROUP = "yolo.plugins"


@dataclass(frozen=True)
class Found:
    """An entry point and what is known about it before it is loaded; load it only when the status is ``ok``."""

    record: PluginRecord
    point: EntryPoint


def installed() -> Iterable[EntryPoint]:
    """The entry points of all installed distributions."""
    return entry_points(group=ENTRY_POINT_GROUP)


def discover(points: Iterable[EntryPoint], settings: Settings) -> list[Found]:
    """Describe entry points: the project's own first, then by name, whatever order the file system gives.

    Plugins to skip are ``disabled``. Of several with one name each is a ``conflict``, except that a first-party plugin
    keeps its name, so that nobody can push it out.
    """
    found = sorted(
        (Found(_describe(point, settings), point) for point in points),
        key=lambda item: (not item.record.first_party, item.record.name, item.record.distribution),
    )
    by_name: defaultdict[str, list[PluginRecord]] = defaultdict(list)
    for item in found:
        if item.record.status == "ok":
            by_name[normalise(item.record.name)].append(item.record)
    return [_refuse_twins(item, by_name[normalise(item.record.name)]) for item in found]


def _describe(point: EntryPoint, settings: Settings) -> PluginRecord:
    distribution = point.dist
    record = PluginRecord(
        name=point.name,
        distribution=distribution.name if distribution else "(unknown)",
        version=distribution.version if distribution else "",
        module=point.value,
    )
    skipped = settings.skips(name=record.name, distribution=record.distribution, first_party=record.first_party)
    return replace(record, status="disabled") if skipped else record


def _refuse_twins(item: Found, twins: list[PluginRecord]) -> Found:
    record = item.record
    if record.status != "ok" or len(twins) == 1:
        return item
    if record.first_party and sum(twin.first_party for twin in twins) == 1:
        return item
    others = " and ".join(twin.dist for twin in twins if twin is not record)
    error = (
        f"the plugin name '{record.name}' of {record.dist} is also used by {others}, so {record.dist} is left out; "
        "uninstall one of them"
    )
    return Found(replace(record, status="conflict", error=error), item.point)
