"""What a self-test found."""

from __future__ import annotations

from dataclasses import dataclass

#: Number formats that can be tested, as the trainer names them.
PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")


@dataclass(frozen=True)
class Check:
    """One comparison with the CPU.

    Attributes:
        part: ``forward`` and ``backward`` of single layers, ``loss``, ``decode``, ``nms``, or ``step`` for a whole
            training step.
        what: what was compared, with the layer.
        error: largest error relative to the size of the numbers; infinite for NaN.
        allowed: the bound for it.
        largest: largest difference of two numbers.
        problem: what happened where nothing could be compared.
    """

    part: str
    what: str
    error: float
    allowed: float
    largest: float = 0.0
    problem: str = ""

    @property
    def passed(self) -> bool:
        """Whether the error is within the bound."""
        return not self.problem and self.error <= self.allowed

    @property
    def strain(self) -> float:
        """The error as a multiple of the bound."""
        if self.problem:
            return float("inf")
        return self.error / self.allowed if self.allowed else self.error

    def __str__(self) -> str:
        if self.problem:
            return f"{self.part} of {self.what}: {self.problem}"
        if self.error == float("inf"):
            return f"{self.part} of {self.what}: NaN or infinite"
        return (
            f"{self.part} of {self.what}: largest difference {self.largest:.2g}, {self.error:.2g} of the size "
            f"of the numbers ({self.allowed:.2g} is allowed)"
        )


@dataclass(frozen=True)
class SelfTest:
    """What became of a self-test.

    Attributes:
        device: as torch names it, with its number.
        name: what it is.
        precision: one of :data:`PRECISIONS`.
        channels_last: memory layout of the convolutions.
        checks: every comparison.
        seconds: that it took.
    """

    device: str
    name: str
    precision: str
    channels_last: bool
    checks: tuple[Check, ...]
    seconds: float

    @property
    def failures(self) -> tuple[Check, ...]:
        """The comparisons that failed."""
        return tuple(check for check in self.checks if not check.passed)

    @property
    def passed(self) -> bool:
        """Whether the device computes what the CPU does."""
        return not self.failures

    def worst(self) -> dict[str, Check]:
        """For every part, the comparison that is nearest to its bound, or furthest above."""
        found: dict[str, Check] = {}
        for check in self.checks:
            if check.part not in found or check.strain > found[check.part].strain:
                found[check.part] = check
        return found

    @property
    def setting(self) -> str:
        """Device, precision and layout."""
        layout = ", channels_last" if self.channels_last else ""
        return f"{self.device} ({self.name}) in {self.precision}{layout}"

    def __str__(self) -> str:
        """One line: that it passed, or the first thing that differs, and what to do."""
        if self.passed:
            return f"{self.setting}: {len(self.checks)} comparisons with the CPU agree ({self.seconds:.1f} s)"
        found = self.failures
        more = f", and {len(found) - 1} more of {len(self.checks)} comparisons differ" if len(found) > 1 else ""
        return f"{self.setting} does not compute what the CPU computes: {found[0]}{more}. {self.advice()}"

    def advice(self) -> str:
        """What to try."""
        tries = []
        if self.precision != "32-true":
            tries.append("--trainer.precision 32-true")
        if self.channels_last:
            tries.append("--model.channels_last false")
        kind = self.device.partition(":")[0]
        if kind == "cuda":
            tries.append("a driver and a torch that fit each other ('yolo doctor' shows both)")
            tries.append("another card: where 32-true differs as well, this one may be broken")
        elif kind == "mps":
            tries.append("PYTORCH_ENABLE_MPS_FALLBACK=1")
            tries.append("newer versions of macOS and torch")
        else:
            tries.append("another version of torch")
        return f"Try {'; '.join(tries)}."
