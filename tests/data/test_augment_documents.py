"""BBox mosaic: whole documents, never cut, with tight boxes, whatever is drawn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from yolo.data.augment.affine import AffineParams
from yolo.data.augment.base import Context
from yolo.data.augment.bbox_mosaic import (
    BBoxMosaic,
    BBoxMosaicParams,
    DocumentParams,
    document_part,
    place_document,
)
from yolo.data.augment.configured import build_pipeline
from yolo.data.augment.geometry import bounds, corners, transform_points
from yolo.data.augment.hsv import HSVParams
from yolo.data.augment.scene import Source, View, render
from yolo.data.config import DataConfig
from yolo.data.testing.pictures import Pictures, flat_picture
from yolo.data.types import Sample, Targets

SIZE = (320, 256)
STILL = DocumentParams(0, AffineParams(), HSVParams(), (0.0, 0.0))
RED, GREEN, BLUE, WHITE = (250, 5, 5), (5, 250, 5), (5, 5, 250), (250, 250, 250)


def documents(*boxes: tuple[int, int, int, int], size: tuple[int, int] = (400, 300)) -> Pictures:
    """Pictures with a document each, in four colours, on black."""
    colours = (RED, GREEN, BLUE, WHITE)
    return Pictures([flat_picture(i, size, [box], [colours[i]]) for i, box in enumerate(boxes)])


def draw(pictures: Pictures, views: list[AffineParams], place: tuple[float, float] = (0.0, 0.0)) -> Sample:
    params = BBoxMosaicParams(tuple(DocumentParams(i, view, HSVParams(), place) for i, view in enumerate(views)))
    view = View(np.eye(3), SIZE)
    return render(BBoxMosaic().arrange(params, Context(SIZE, count=4), pictures, view), view, 0)


def pixels_of(image: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Coordinates (x, y) of the middles of the pixels of a colour."""
    y, x = np.nonzero((np.abs(image.astype(int) - colour) < 40).all(-1))
    return np.stack([x, y], 1) + 0.5


SHAPES = [(360, 40), (40, 360), (200, 200), (8, 6), (1, 1), (399, 299)]
VIEWS = [
    AffineParams(),
    AffineParams(degrees=20.0, zoom=1.15, shear=(2.0, -2.0), shift=(0.05, -0.05)),
    AffineParams(degrees=45.0, zoom=1.99, shift=(1.0, 1.0)),
    AffineParams(degrees=-90.0, zoom=0.5, shear=(30.0, 0.0)),
    AffineParams(degrees=137.0, zoom=1.5, perspective=(0.1, -0.1), shear=(-40.0, 35.0), shift=(-1.0, 0.5)),
    AffineParams(perspective=(0.003, 0.002), zoom=1.0),
]


@pytest.mark.parametrize("place", [(0.0, 0.0), (1.0, -1.0)])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("view", VIEWS)
def test_a_document_is_never_cut(view: AffineParams, shape: tuple[int, int], place: tuple[float, float]) -> None:
    """Its four corners stay in the quadrant; every pixel that they enclose is drawn, and none else."""
    x0, y0 = (400 - shape[0]) // 2, (300 - shape[1]) // 2
    box = (x0, y0, x0 + shape[0], y0 + shape[1]) if shape[1] <= 300 else (100, 0, 140, 300)
    pictures = documents(box, box, box, box)
    sample = draw(pictures, [view] * 4, place)
    cell = SIZE[0] / 2, SIZE[1] / 2
    for number, colour in enumerate((RED, GREEN, BLUE, WHITE)):
        row, column = divmod(number, 2)
        matrix = place_document(DocumentParams(number, view, HSVParams(), place), tuple(map(float, box)), cell)
        quad = transform_points(matrix, corners(box))
        assert quad.min() >= -1e-6 and (quad <= np.array(cell) + 1e-6).all()
        quad += np.array([column * cell[0], row * cell[1]])
        y, x = np.mgrid[: SIZE[1], : SIZE[0]] + 0.5
        edges = np.roll(quad, -1, 0) - quad
        sides = [
            edge[0] * (y - corner[1]) - edge[1] * (x - corner[0]) for edge, corner in zip(edges, quad, strict=True)
        ]
        inside = np.min(sides, 0) > 1e-3
        near = np.min(sides, 0) > -1e-3
        drawn = np.zeros_like(inside)
        drawn[tuple((pixels_of(sample.image, colour) - 0.5).astype(int).T[::-1])] = True
        assert (inside <= drawn).all(), "a part is missing"
        assert (drawn <= near).all(), "more than the document"
    assert set(sample.targets.labels.tolist()) <= {0, 100, 200, 300}


@pytest.mark.parametrize("degrees", [0.0, 17.0, 45.0, 90.0, 200.0])
def test_boxes_are_tight(degrees: float) -> None:
    pictures = documents((20, 100, 380, 140), (10, 10, 200, 290), (0, 0, 400, 300), (150, 100, 250, 200))
    sample = draw(pictures, [AffineParams(degrees=degrees, shear=(3.0, -2.0))] * 4, (0.5, -0.5))
    assert sample.targets.labels.tolist() == [0, 100, 200, 300]
    for box, colour in zip(sample.targets.boxes, (RED, GREEN, BLUE, WHITE), strict=True):
        x0, y0, x1, y1 = bounds(pixels_of(sample.image, colour))
        np.testing.assert_allclose(box, [x0 - 0.5, y0 - 0.5, x1 + 0.5, y1 + 0.5], atol=2.5)


def test_an_unturned_document_fills_its_quadrant_but_for_the_margin() -> None:
    part = (0.0, 0.0, 100.0, 50.0)
    box = bounds(transform_points(place_document(STILL, part, (160, 128)), corners(part)))
    np.testing.assert_allclose(box, [12, 64 - 34, 148, 64 + 34])


def test_a_turned_document_has_the_canvas_of_the_formula() -> None:
    """W |cos| + H |sin| by W |sin| + H |cos|, fitted into the quadrant."""
    part, angle = (30.0, 20.0, 390.0, 60.0), np.deg2rad(20)
    document = DocumentParams(0, AffineParams(degrees=20), HSVParams(), (0.0, 0.0))
    x0, y0, x1, y1 = bounds(transform_points(place_document(document, part, (160, 128)), corners(part)))
    wide = 360 * np.cos(angle) + 40 * np.sin(angle)
    high = 360 * np.sin(angle) + 40 * np.cos(angle)
    assert (x1 - x0) / (y1 - y0) == pytest.approx(wide / high)
    assert x1 - x0 == pytest.approx(0.85 * 160)


@pytest.mark.parametrize(("jitter", "places"), [(0.0, 1), (1.0, 50)])
def test_jitter_moves_documents_within_their_quadrant(jitter: float, places: int) -> None:
    layout = BBoxMosaic(jitter=jitter)
    drawn = [layout.draw(np.random.default_rng(seed), Context(SIZE, count=4)) for seed in range(50)]
    found = {document.place for params in drawn for document in params.documents[:1]}
    assert len(found) == places
    assert np.abs(list(found)).max() <= jitter
    edge = DocumentParams(0, AffineParams(), HSVParams(), (1.0, -1.0))
    part = (0.0, 0.0, 100.0, 80.0)
    box = bounds(transform_points(place_document(edge, part, (160, 128)), corners(part)))
    np.testing.assert_allclose(box, [160 - 136, 0, 160, 108.8])


def test_every_box_of_a_picture_stays() -> None:
    """The crop is the smallest rectangle around them all, so that none is cut."""
    colours = [RED, GREEN, BLUE]
    boxes = [(40, 30, 80, 60), (70, 200, 130, 260), (300, 100, 380, 120)]
    several = flat_picture(0, (400, 300), boxes, colours, ground=(0, 0, 0))
    pictures = Pictures([several, *(flat_picture(i, (400, 300)) for i in (1, 2, 3))])
    assert document_part(several.targets, several.size) == (40, 30, 380, 260)
    sample = draw(pictures, [AffineParams(degrees=30.0)] * 4)
    assert sample.targets.labels.tolist() == [0, 1, 2]
    for box, colour in zip(sample.targets.boxes, colours, strict=True):
        x0, y0, x1, y1 = bounds(pixels_of(sample.image, colour))
        np.testing.assert_allclose(box, [x0 - 0.5, y0 - 0.5, x1 + 0.5, y1 + 0.5], atol=2.5)


def test_a_picture_without_boxes_is_shown_whole_and_stays_without() -> None:
    pictures = Pictures([flat_picture(i, (400, 300), ground=(200, 0, 0)) for i in range(4)])
    assert document_part(Targets.empty(), (400, 300)) == (0, 0, 400, 300)
    sample = draw(pictures, [AffineParams()] * 4)
    assert not len(sample.targets)
    assert len(pixels_of(sample.image, (200, 0, 0))) == pytest.approx(4 * 136 * 102, rel=0.01)


@pytest.mark.parametrize("box", [(399.5, 10, 400, 12), (0, 0, 0.25, 0.25), (200, 299.9, 200.1, 300)])
def test_a_speck_is_a_pixel_at_least(box: tuple[float, ...]) -> None:
    part = document_part(Targets(np.array([box], np.float32), np.array([0])), (400, 300))
    assert part[2] - part[0] >= 1 and part[3] - part[1] >= 1
    assert min(part) >= 0 and part[2] <= 400 and part[3] <= 300


def test_the_global_view_does_not_cut_documents_again() -> None:
    """Nor does its perspective: the random view of the other layouts leaves a mosaic of documents alone."""
    pictures = documents((20, 100, 380, 140), (10, 10, 200, 290), (0, 0, 400, 300), (150, 100, 250, 200))
    config = DataConfig(
        image_size=SIZE,
        degrees=45.0,
        translate=0.9,
        perspective=0.01,
        shear=30.0,
        hsv_h=0.0,
        hsv_s=0.0,
        hsv_v=0.0,
        bbox_mosaic={"prob": 1.0, "degrees": 180.0, "jitter": 1.0, "hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0},  # type: ignore[arg-type]
    )
    pipeline, context = build_pipeline(config), Context(SIZE, count=4)
    for seed in range(30):
        plan = pipeline.draw(np.random.default_rng(seed), context, mix=True)
        assert isinstance(plan.picture.layout, BBoxMosaic) and plan.picture.affine == AffineParams()
        sample = pipeline.carry_out(plan, context, pictures)
        assert len(sample.targets) == 4
        assert not (np.abs(sample.image.astype(int)) < 5).all(-1).any(), "no black: nothing beside the documents"


def test_each_document_has_its_own_colours_and_the_source_keeps_its_own() -> None:
    pictures = documents(*[(0, 0, 400, 300)] * 4)
    before = [picture.image.copy() for picture in pictures.sources]
    colours = [HSVParams(value=factor) for factor in (1.0, 0.8, 0.6, 0.4)]
    white = Pictures([pictures.sources[3]] * 4)
    params = BBoxMosaicParams(tuple(DocumentParams(i, AffineParams(), colours[i], (0.0, 0.0)) for i in range(4)))
    view = View(np.eye(3), SIZE)
    image = render(BBoxMosaic().arrange(params, Context(SIZE, count=4), white, view), view, 0).image
    middles = [image[64, 80, 0], image[64, 240, 0], image[192, 80, 0], image[192, 240, 0]]
    np.testing.assert_allclose(middles, [250, 200, 150, 100], atol=2)
    for picture, old in zip(pictures.sources, before, strict=True):
        np.testing.assert_array_equal(picture.image, old)


def test_documents_are_asked_for_as_large_as_they_appear() -> None:
    pictures = documents((100, 100, 200, 200), *[(0, 0, 400, 300)] * 3)
    draw(pictures, [AffineParams()] * 4)
    assert pictures.least == [(436, 327)] + [(136, 102)] * 3, "a crop of a quarter of the width: 109 pixels of 436"


class Halved(Pictures):
    """Decodes at half the size, as a loader may."""

    def read(self, index: int, *, least: tuple[int, int] | None = None, rows: int | None = None) -> Source:
        whole = super().read(index, least=least)
        return replace(whole, image=np.ascontiguousarray(whole.image[::2, ::2]))


def test_a_reduced_decode_changes_no_box_and_no_outline() -> None:
    boxes = [(101, 51, 300, 201), (20, 100, 380, 140), (0, 0, 401, 301), (390, 290, 401, 301)]
    full = documents(*boxes, size=(401, 301))
    views = [AffineParams(degrees=20.0), AffineParams(), AffineParams(perspective=(0.002, 0)), AffineParams(zoom=0.5)]
    a, b = draw(full, views), draw(Halved(full.sources), views)
    np.testing.assert_allclose(a.targets.boxes, b.targets.boxes, atol=1e-3)
    np.testing.assert_array_equal((a.image == 114).all(-1), (b.image == 114).all(-1))
    np.testing.assert_allclose(a.matrix, b.matrix)
