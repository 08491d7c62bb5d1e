"""``yolo tune loader``: clocks that add up, other ways to the same samples, and what follows from the figures."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from yolo.cli.main import main
from yolo.data.augment import scene
from yolo.data.augment.hsv import RandomHSV
from yolo.data.augment.pipeline import Pipeline
from yolo.data.cache.pictures import decode_record, encode_record
from yolo.data.cache.plan import shrink
from yolo.data.cache.settings import CacheSettings
from yolo.data.config import DataConfig
from yolo.data.loaders import ImageLoader
from yolo.data.loaders.default import DefaultImageLoader
from yolo.training.tuning.clock import Rate
from yolo.training.tuning.loading import (
    _NO_FILE,
    KeptPictures,
    Variant,
    compare_variants,
    loader_rate,
    worker_counts,
)
from yolo.training.tuning.samples import first_keys
from yolo.training.tuning.settings import Pictures
from yolo.training.tuning.stages import DECODE, REST, StageTimer, time_stages
from yolo.training.tuning.steps import StepFigures
from yolo.training.tuning.verdict import Measured, enough_workers, judge


@pytest.fixture
def pictures(synthetic_data: Path) -> Pictures:
    config = DataConfig(root=str(synthetic_data), format="yolo", image_size=64, batch_size=4, num_workers=0)
    return Pictures.open(config)


def test_a_clock_within_a_clock_counts_once() -> None:
    now = [0.0]

    class Work:
        def outer(self, seconds: float) -> str:
            now[0] += seconds
            self.inner()
            self.inner()
            return "done"

        def inner(self) -> None:
            now[0] += 1.0

    class Inherited(Work):
        pass

    timer = StageTimer(["never"], clocks=(lambda: now[0], lambda: 2 * now[0]))
    with timer.around(Inherited, "outer", "out"), timer.around(Work, "inner", "in"):
        assert Inherited().outer(3.0) == "done"
    Inherited().outer(100.0)
    assert "outer" not in vars(Inherited) and Work.outer.__qualname__.endswith("Work.outer"), "all is as it was"
    found = [(stage.name, stage.seconds, stage.busy, stage.calls) for stage in timer.stages(2)]
    assert found == [("never", 0, 0, 0), ("out", 1.5, 3.0, 0.5), ("in", 1.0, 2.0, 1.0)]


def test_the_clocks_are_taken_away_after_an_error() -> None:
    timer = StageTimer()
    before = RandomHSV.apply
    with pytest.raises(AttributeError), timer.around(RandomHSV, "apply", "hsv"):
        RandomHSV().apply(None, None)  # type: ignore[arg-type]
    assert RandomHSV.apply is before and timer.stages(1)[0].calls == 1


def test_the_stages_of_a_sample(pictures: Pictures) -> None:
    before = Pipeline.draw, scene.paint, scene.visible_targets, RandomHSV.recolour
    dataset, keys = first_keys(pictures.config, pictures.table, pictures.images, count=16)
    plain = dataset.__getitems__(keys[:4])
    start = time.perf_counter()
    stages = time_stages(dataset, keys, batch_size=4)
    took = time.perf_counter() - start
    assert (Pipeline.draw, scene.paint, scene.visible_targets, RandomHSV.recolour) == before
    assert "read" not in vars(dataset.loader)
    calls = {stage.name: stage.calls for stage in stages}
    assert calls["draw random numbers"] == 1 and calls["collate"] == calls[REST] == 0.25
    assert 3 < calls[DECODE] <= 5 and "MixUp" in calls
    assert 1 <= calls["RandomHSV"] <= 1 + calls[DECODE]  # of the border, and of each tile
    assert 0 < sum(stage.seconds for stage in stages) * len(keys) <= took
    assert all(stage.seconds >= 0 and stage.busy >= 0 for stage in stages) and stages[-1].name == REST
    again = dataset.__getitems__(keys[:4])
    assert all(np.array_equal(one.image, two.image) for one, two in zip(plain, again, strict=True))


class SlowLoader(DefaultImageLoader):
    """Takes 20 ms a picture, so that nobody can load more than fifty a second."""

    def read(self, path: str, **options: object) -> np.ndarray:
        time.sleep(0.02)
        return super().read(path, **options)


def test_the_rate_of_a_loader(pictures: Pictures) -> None:
    config = replace(pictures.config, mosaic_prob=0.0, mixup_prob=0.0)
    slow = replace(pictures, config=config, images=SlowLoader())
    rate = loader_rate(slow, workers=0, seconds=0.4)
    assert 0 < rate.median < 50 and rate.count >= 3
    rate = loader_rate(slow, workers=2, seconds=0.4)
    assert rate.median > 0, "several epochs of four batches, with workers"


def test_worker_counts() -> None:
    assert worker_counts(1) == [0, 1]
    assert worker_counts(6, 3, 8) == [0, 1, 2, 3, 4, 6]
    assert worker_counts(16, 8) == [0, 1, 2, 4, 8, 16]


def test_kept_pictures_are_those_of_a_cache(pictures: Pictures) -> None:
    settings = CacheSettings.of(replace(pictures.config, cache_images="disk"))
    path = pictures.table.path(0)
    files: ImageLoader = DefaultImageLoader()
    record = encode_record(shrink(files.read(path), settings.size), _NO_FILE, picture_format="jpeg", quality=95)
    kept = KeptPictures(files, settings)
    assert settings.quality == 95
    assert np.array_equal(kept.read(path), decode_record(record))
    kept.files = None  # type: ignore[assignment]  # it is not asked again
    assert np.array_equal(kept.read(path, least=(16, 16)), decode_record(record, least=(16, 16)))


def test_other_ways_to_make_the_same_samples(pictures: Pictures) -> None:
    variants = compare_variants(pictures, seconds=0.05)
    names = [variant.name for variant in variants]
    assert names[0] == "" and {"data.share_decoded true", "data.cache_images disk"} <= set(names)
    assert all(variant.rate.median > 0 for variant in variants)
    assert [variant.name for variant in variants if variant.estimated] == ["data.cache_images disk"]
    single = replace(pictures, config=replace(pictures.config, mosaic_prob=0.0, mixup_prob=0.0))
    assert "data.share_decoded true" not in [variant.name for variant in compare_variants(single, seconds=0.01)]


def rate(median: float, spread: float | None = 0.01) -> Rate:
    return Rate(median, spread, 5)


def step(median: float, waiting: float = 0.0, device: str = "cuda:0") -> StepFigures:
    return StepFigures(rate=rate(median), device=device, waiting=waiting)


VARIANTS = (
    Variant("", rate(40)),
    Variant("data.image_loader turbojpeg", rate(60)),
    Variant("data.share_decoded true", rate(42), "less variety"),
    Variant("data.cache_images disk", rate(80, 1.2), estimated=True),
)


class TestVerdict:
    def test_fewest_workers_with_a_reserve(self) -> None:
        loaders = {0: rate(30), 1: rate(40), 2: rate(79), 4: rate(150), 8: rate(152)}
        assert enough_workers(loaders, 60) == 2
        assert enough_workers(loaders, 70) == 4
        assert enough_workers(loaders, 500) == 4, "8 are no faster"

    def test_more_workers_help(self) -> None:
        loaders = {1: rate(40), 2: rate(79), 4: rate(150)}
        found = Measured(1, loaders, step(100), {1: step(39, 0.6), 4: step(99, 0.01)}, VARIANTS)
        verdict = judge(found)
        assert verdict.slower == "loader"
        assert verdict.options == (("--data.num_workers 4", "99.0 images/s together instead of 39.0"),)
        for number in ("40.0 images/s with 1 worker", "takes 100", "reach 39.0", "60 % of the time"):
            assert number in verdict.text

    def test_where_workers_do_not_suffice_cheaper_loading_is_named(self) -> None:
        loaders = {1: rate(40), 2: rate(79)}
        found = Measured(2, loaders, step(100), {2: step(75, 0.3)}, VARIANTS)
        verdict = judge(found)
        # Sharing gains too little, and the cache's gain is within its noise.
        assert verdict.slower == "loader"
        assert verdict.options == (("--data.image_loader turbojpeg", "1.5 times as many samples from each process"),)

    def test_a_slow_network_is_not_helped_by_loading(self) -> None:
        loaders = {0: rate(40), 2: rate(79)}
        verdict = judge(Measured(2, loaders, step(10), {2: step(9.8, 0.01), 0: step(7.9, 0.2)}, VARIANTS))
        assert (verdict.slower, verdict.options) == ("model", ())
        verdict = judge(Measured(2, loaders, step(10), {2: step(9.8, 0.01), 0: step(9.7, 0.02)}, VARIANTS))
        assert [option for option, _ in verdict.options] == ["--data.num_workers 0"]

    def test_both_want_the_same_processors(self) -> None:
        model = step(10, device="cpu")
        verdict = judge(Measured(2, {2: rate(20)}, model, {2: step(6, 0.02, "cpu")}, VARIANTS))
        assert verdict.slower == "both"
        assert [option for option, _ in verdict.options] == ["--data.image_loader turbojpeg"]

    def test_noise_suggests_nothing(self) -> None:
        noisy = StepFigures(rate=rate(44, 0.2), device="cuda:0", waiting=0.3)
        found = Measured(1, {1: rate(40), 2: rate(60)}, step(45), {1: step(40, 0.4), 2: noisy}, VARIANTS[:1])
        assert judge(found).options == ()
        single = StepFigures(rate=rate(50, None), device="cuda:0", waiting=0.3)
        found = Measured(1, {1: rate(40), 2: rate(60)}, step(60), {1: step(43, 0.4), 2: single}, VARIANTS[:1])
        assert judge(found).options == (), "a single measurement"


def test_the_command(synthetic_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(synthetic_data.rglob("*"))
    args = [f"--data.root={synthetic_data}", "--data.image_size=64", "--data.batch_size=4", "--data.num_workers=0"]
    args += ["--model.model_config=v9-t", "--trainer.accelerator=cpu", "--seconds=0.01", "--json=figures.json"]
    args += [f"--data.cache_dir={tmp_path}", "--data.cache_images=disk"]
    assert main(["tune", "loader", *args]) == 0
    printed = capsys.readouterr().out
    figures = json.loads((tmp_path / "figures.json").read_text())
    for part in (
        "read and decode",
        "as configured",
        "loader, num_workers 0",
        "network on cpu",
        "together, num_workers 0",
    ):
        assert part in printed
    assert figures["verdict"]["text"] in printed
    assert figures["verdict"]["slower"] in ("model", "both", "loader")
    assert {"0", "1"} <= set(figures["loader"]) and "0" in figures["together"]
    assert figures["network"]["rate"]["median"] > 0 and 0 <= figures["together"]["0"]["waiting"] <= 1
    assert [path.name for path in tmp_path.iterdir()] == ["figures.json"], "and no run folder"
    assert sorted(synthetic_data.rglob("*")) == before


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options, text in (
        (["--data.root=nowhere"], "nowhere"),
        (["--data.root=nowhere", "--seconds=-1"], "--seconds -1: it has to be above 0"),
        (["--data.rot=nowhere"], "rot"),
    ):
        assert main(["tune", "loader", *options]) in (1, 2)
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1 and text in lines[0]
