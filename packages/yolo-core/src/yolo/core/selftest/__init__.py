"""Does a device compute what the CPU computes? Forward pass, loss, NMS and backward pass of a small fixed network.

Every layer is fed with what it was fed on the CPU, so that a fault shows in the layer that has it, and rounding does
not add up from layer to layer.
"""

from yolo.core.selftest.known import is_known, remember
from yolo.core.selftest.result import PRECISIONS, Check, SelfTest
from yolo.core.selftest.run import self_test

__all__ = ["PRECISIONS", "Check", "SelfTest", "is_known", "remember", "self_test"]
