"""What each source of a configuration says about callbacks: files in their order, then the command line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from yolo.data.config_files import read_config

_LIST = "trainer.callbacks"


@dataclass
class ListedEntry:
    """An entry of ``trainer.callbacks`` as it was written.

    Attributes:
        position: of the source that it stands in; later ones win.
        keys: arguments that are written down; None where that is not known, and all that were parsed count.
        class_path: as written.
    """

    position: int
    keys: set[str] | None = field(default_factory=set)
    class_path: str = ""


@dataclass
class CallbackSources:
    """Where settings of callbacks come from.

    Attributes:
        entries: of the list that holds in the end.
        named: position of the last source that sets an option by its name, as in ``("ema", "decay")``.
    """

    entries: list[ListedEntry] = field(default_factory=list)
    named: dict[tuple[str, str], int] = field(default_factory=dict)

    @classmethod
    def read(cls, args: Sequence[str], names: Sequence[str]) -> CallbackSources:
        """Look through a command line, in which files stand as ``--config=path``, in front.

        Args:
            args: the command line.
            names: of the callbacks that are set by name.
        """
        found = cls()
        files = [arg.removeprefix("--config=") for arg in args if arg.startswith("--config=")]
        for position, file in enumerate(files):
            content = read_config(file)
            for name in names:
                found._take_section(name, content.get(name), position)
            found._take_trainer(content.get("trainer"), position)
        found._take_options(args, names, len(files))
        return found

    def wins_by_name(self, name: str, key: str, entry: ListedEntry) -> bool:
        """Whether an option by name comes later than an entry of the list, or stands in the same source."""
        return self.named.get((name, key), -1) >= entry.position

    def _take_section(self, name: str, section: Any, position: int) -> None:
        for key in section if isinstance(section, Mapping) else ():
            self.named[name, str(key)] = position

    def _take_trainer(self, section: Any, position: int) -> None:
        for key, value in section.items() if isinstance(section, Mapping) else ():
            if key in ("callbacks", "callbacks+"):
                self._take_list(value, position, append=key.endswith("+"))

    def _take_list(self, value: Any, position: int, *, append: bool) -> None:
        if not append:
            self.entries = []
        entries = value if isinstance(value, list) else [] if value is None else [value]
        self.entries += [_entry(entry, position) for entry in entries]

    def _take_options(self, args: Sequence[str], names: Sequence[str], position: int) -> None:
        for index, arg in enumerate(args):
            option, equals, value = arg.removeprefix("--").partition("=")
            if not arg.startswith("--"):
                continue
            following = args[index + 1] if index + 1 < len(args) else ""
            text = value if equals else following
            head, _, key = option.partition(".")
            if head in names and key:
                self.named[head, key] = position
            elif option in names:
                self._take_section(option, _plain(text), position)
            elif option == "trainer":
                self._take_trainer(_plain(text), position)
            elif option in (_LIST, f"{_LIST}+"):
                self._take_list(_plain(text), position, append=option.endswith("+"))
            elif option.startswith(f"{_LIST}.") and self.entries:
                last = self.entries[-1]
                if last.keys is not None:
                    last.keys.add(option.rpartition(".")[2])


def _entry(value: Any, position: int) -> ListedEntry:
    if isinstance(value, str):
        return ListedEntry(position, class_path=value)
    if not isinstance(value, Mapping):
        return ListedEntry(position, None)
    arguments = value.get("init_args")
    keys = {str(key) for key in arguments} if isinstance(arguments, Mapping) else set()
    return ListedEntry(position, keys, str(value.get("class_path", "")))


def _plain(text: str) -> Any:
    """Read an option's value; a file that is named there is read, too."""
    try:
        value = yaml.safe_load(text)
        if isinstance(value, str) and re.fullmatch(r".*\.(ya?ml|json)", value):
            return read_config(value)
    except Exception:  # the parser has its own words for it, and knows more kinds of values
        return None
    return value
