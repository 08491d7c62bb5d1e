"""A model file checked to the last channel, before any weight exists: shapes, strides, and the layers a head needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from yolo.core.errors import UsageError
from yolo.core.models.arguments import bind_arguments
from yolo.core.models.layers import INPUT, LayerSpec, ModelSpec, SpecError
from yolo.core.nn.registry import BlockEntry, Inputs, Output, Shape, ShapeError, blocks
from yolo.core.plugins.suggest import unknown_name

if TYPE_CHECKING:
    from yolo.core.models.network import Network

# Strides are read off the shapes of an image that every usual stride divides.
NOMINAL_SIZE = (2048, 2048)


@dataclass(frozen=True)
class PlannedLayer:
    """A layer with its block found, its arguments complete, and its shapes known."""

    spec: LayerSpec
    entry: BlockEntry
    args: dict[str, Any]
    inputs: Inputs
    output: Output

    @property
    def in_channels(self) -> tuple[int, ...]:
        """Channels of the sources that are single maps."""
        return tuple(shape.channels for shape in self.inputs if isinstance(shape, Shape))


@dataclass(frozen=True)
class Plan:
    """Everything that building and running a network needs to know.

    Attributes:
        spec: the model file.
        num_classes: classes.
        layers: in order.
        main: index of the head that predicts.
        aux: index of the auxiliary head, if there is one.
        strides: pixels per cell of each scale, fine to coarse.

    The maps that a head returns are one per scale, or one per scale and anchor box: see :meth:`maps`.
    """

    spec: ModelSpec
    num_classes: int
    layers: tuple[PlannedLayer, ...]
    main: int
    aux: int | None
    strides: tuple[int, ...]

    def check_size(self, image_size: tuple[int, int]) -> None:
        """Refuse an image size (width, height) that the coarsest scale does not divide.

        Raises:
            UsageError: with the nearest size that works.
        """
        step, (width, height) = max(self.strides), image_size
        if width % step or height % step or min(width, height) < step:
            near = "x".join(str(max(step, round(side / step) * step)) for side in image_size)
            raise UsageError(
                f"image size {width}x{height}: {self.spec.name} needs multiples of {step} as sides, such as {near}"
            )

    def maps(self, head: int) -> tuple[tuple[int, ...], tuple[tuple[float, float], ...] | None]:
        """Strides and anchor boxes of the maps that a head returns; no anchor boxes for an anchor-free head."""
        anchors = self.spec.anchors
        if anchors is None or not _reads_anchors(self.layers[head]):
            return self.strides, None
        pairs = [(stride, box) for stride, boxes in zip(self.strides, anchors, strict=True) for box in boxes]
        return tuple(stride for stride, _ in pairs), tuple(box for _, box in pairs)

    def needed(self, *heads: int) -> tuple[int, ...]:
        """Indexes of the layers that these heads depend on, themselves included, in order."""
        return _ancestors([layer.spec for layer in self.layers], heads)


@dataclass(frozen=True)
class LayerRow:
    """One line of a layer table. Shapes are of one image (no batch axis); a head's are per scale."""

    index: int
    section: str
    block: str
    sources: tuple[int, ...]
    args: dict[str, Any]
    tag: str | None
    in_channels: tuple[int, ...]
    shapes: tuple[Shape, ...]


def make_plan(spec: ModelSpec, num_classes: int = 80, *, image_size: tuple[int, int] = NOMINAL_SIZE) -> Plan:
    """Check a model against the blocks and work out all shapes.

    Args:
        spec: the model.
        num_classes: classes.
        image_size: (width, height) of the shapes.

    Raises:
        SpecError: unknown block or argument, shapes that do not fit, no head, two heads, or a layer that nobody reads.
    """
    if num_classes < 1:
        raise SpecError(f"{spec.name}: the number of classes must be at least 1, not {num_classes}")
    layers: list[PlannedLayer] = []
    image = Shape(3, image_size[1], image_size[0])
    for layer in spec.layers:
        inputs = tuple(image if source == INPUT else layers[source].output for source in layer.sources)
        layers.append(_plan_layer(layer, inputs, spec, num_classes))
    main, aux = _heads(spec, layers)
    _check_readers(spec, main, aux)
    if spec.anchors is not None and not any(map(_reads_anchors, layers)):
        raise layers[main].spec.error("anchor.anchor is for heads with version: v7 only; remove it, or say so here")
    return Plan(spec, num_classes, tuple(layers), main, aux, _strides(layers, main, aux, image, spec))


def layer_table(
    model: Network | ModelSpec, image_size: tuple[int, int] = (640, 640), *, num_classes: int = 80
) -> tuple[LayerRow, ...]:
    """The layers with the shapes of their outputs at an image size (width, height).

    ``num_classes`` counts for a spec only; a network knows its own.

    Raises:
        SpecError: a mistake in the model.
        UsageError: a size that it cannot take.
    """
    if not isinstance(model, ModelSpec):
        return layer_table(model.spec, image_size, num_classes=model.num_classes)
    make_plan(model, num_classes).check_size(image_size)
    plan = make_plan(model, num_classes, image_size=image_size)
    return tuple(
        LayerRow(
            index=layer.spec.index,
            section=layer.spec.section,
            block=layer.spec.block,
            sources=layer.spec.sources,
            args=dict(layer.spec.args),
            tag=layer.spec.tag,
            in_channels=layer.in_channels,
            shapes=(layer.output,) if isinstance(layer.output, Shape) else layer.output,
        )
        for layer in plan.layers
    )


def _plan_layer(layer: LayerSpec, inputs: Inputs, spec: ModelSpec, num_classes: int) -> PlannedLayer:
    known = blocks()
    entry = known.get(layer.block)
    if entry is None:
        raise layer.error(unknown_name("block", layer.block, known))
    args = bind_arguments(layer, entry)
    if entry.head:
        args |= {"num_classes": num_classes, "reg_max": spec.reg_max, "anchors": spec.anchors}
    try:
        if not entry.many and len(inputs) != 1:
            raise ShapeError(f"reads one source, but {len(inputs)} are given")
        output = entry.factory.infer(inputs, args)
    except ShapeError as error:
        raise layer.error(str(error)) from None
    if entry.head and isinstance(inputs[0], Shape):
        args["class_channels"] = spec.class_width.channels(inputs[0].channels, num_classes)
    return PlannedLayer(layer, entry, args, inputs, output)


def _reads_anchors(layer: PlannedLayer) -> bool:
    return layer.entry.head and layer.args.get("version") == "v7"


def _heads(spec: ModelSpec, layers: Sequence[PlannedLayer]) -> tuple[int, int | None]:
    heads: dict[bool, PlannedLayer] = {}
    for layer in layers:
        if layer.entry.head:
            other = heads.setdefault(layer.spec.auxiliary, layer)
            if other is not layer:
                raise layer.spec.error(f"a second head; layer {other.spec.index} is one already")
    name = spec.layers[0].where.split(": ")[0] or spec.name
    if False not in heads:
        known = ", ".join(sorted(entry.name for entry in blocks().values() if entry.head))
        raise SpecError(f"{name}: no detection head; the section 'detection' needs one of: {known}")
    main = heads[False].spec
    if main.section != "detection":
        raise main.error("a head belongs in the section 'detection'")
    return main.index, heads[True].spec.index if True in heads else None


def _check_readers(spec: ModelSpec, main: int, aux: int | None) -> None:
    for_main = set(_ancestors(spec.layers, [main]))
    for_aux = set() if aux is None else set(_ancestors(spec.layers, [aux]))
    for layer in spec.layers:
        if layer.index in for_aux and layer.index not in for_main and not layer.auxiliary:
            raise layer.error("only the auxiliary head depends on this layer; move it to the section 'auxiliary'")
        if layer.index not in for_main | for_aux:
            raise layer.error("no head depends on this layer; remove it, or name it as a source")


def _ancestors(layers: Sequence[LayerSpec], heads: Sequence[int]) -> tuple[int, ...]:
    needed = set(heads)
    for layer in reversed(layers):
        if layer.index in needed:
            needed.update(source for source in layer.sources if source != INPUT)
    return tuple(sorted(needed))


def _strides(
    layers: Sequence[PlannedLayer], main: int, aux: int | None, image: Shape, spec: ModelSpec
) -> tuple[int, ...]:
    def of(head: int) -> tuple[int, ...]:
        return tuple(round(image.height / shape.height) for shape in layers[head].inputs if isinstance(shape, Shape))

    strides = of(main)
    if aux is not None and of(aux) != strides:
        raise layers[aux].spec.error(f"predicts at strides {of(aux)}, the main head at {strides}; they must agree")
    if spec.strides is not None and spec.strides != strides:
        raise layers[main].spec.error(f"its strides are {strides}, but anchor.strides says {spec.strides}")
    return strides
