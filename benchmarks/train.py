"""Training steps a second: ours, with and without the auxiliary branch, beside ultralytics' yolov9t and yolov9s.

    uv run python benchmarks/train.py
    uv run python benchmarks/train.py --device cuda --amp fp16 --batch 16 --steps 20

A step: uint8 images to float, forward, loss, backward, clipping of the gradient's norm, SGD with Nesterov momentum,
update of the averaged weights, each with the parts that the side's own training uses. All sides get the same batch.
Each side is a process of its own; a peer's runs in an environment that uv makes for it, with the same Python and torch.
The processes take turns: one has memory and processor to itself, makes a step that does not count and then some that
do. Ratios are taken round by round, then their median. Processor time counts all threads, and suffers less than the
time on the clock from what else the machine does.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import torch

PEER = "ultralytics==8.4.190"
PEER_MODELS = {"v9-t": "yolov9t.yaml", "v9-s": "yolov9s.yaml", "v9-m": "yolov9m.yaml", "v9-c": "yolov9c.yaml"}
CLASSES = 80
RATE, MOMENTUM, DECAY, CLIP = 1e-4, 0.937, 5e-4, 10.0  # a small rate: one batch again and again
OURS = {
    "ours": {},
    "ours, main branch only": {"auxiliary": False},
    "ours, through Lightning": {"lightning": True},
    "main branch, channels first": {"auxiliary": False, "channels_last": False},
    "main branch, channels last": {"auxiliary": False, "channels_last": True},
    "main branch, memory not kept": {"auxiliary": False, "keep": False},
    "main branch, channels first, memory not kept": {"auxiliary": False, "channels_last": False, "keep": False},
    "main branch, compiled": {"auxiliary": False, "compile": True},
}
SIDES = (*OURS, "ultralytics")
USUAL = ("ours", "ours, main branch only", "ultralytics")
STAGES = ("float", "forward", "loss", "backward", "clip", "optimiser", "EMA")
Step = Iterator[str]  # says which stage is done


def batch_of(options: argparse.Namespace) -> tuple[torch.Tensor, ...]:
    """Images and targets, the same on every side: uint8 images, xyxy boxes in pixels, labels, image of each box."""
    random = torch.Generator().manual_seed(0)
    size, count = options.size, options.batch * options.boxes
    images = torch.randint(0, 256, (options.batch, 3, size, size), dtype=torch.uint8, generator=random)
    centre = torch.rand(count, 2, generator=random) * size
    half = (torch.rand(count, 2, generator=random) * 0.3 + 0.02) * size / 2
    boxes = torch.cat((centre - half, centre + half), dim=1).clamp(0, size)
    labels = torch.randint(0, CLASSES, (count,), generator=random)
    index = torch.arange(options.batch).repeat_interleave(options.boxes)
    return tuple(tensor.to(options.device) for tensor in (images, boxes, labels, index))


def precision(options: argparse.Namespace) -> tuple[Callable, torch.amp.GradScaler]:
    kind = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(options.amp)

    def autocast() -> contextlib.AbstractContextManager:
        return torch.autocast(options.device, dtype=kind) if kind else contextlib.nullcontext()

    return autocast, torch.amp.GradScaler(options.device, enabled=options.amp == "fp16")


def our_module(options: argparse.Namespace, *, auxiliary: bool, channels_last: bool | None, compile: bool) -> object:
    from yolo.core.models import build_model
    from yolo.training.compiling import compiled
    from yolo.training.layout import channels_last as arrange
    from yolo.training.layout import is_faster
    from yolo.training.module import YOLOModule

    settings = {"learning_rate": RATE, "momentum": MOMENTUM, "weight_decay": DECAY}
    module = YOLOModule(model_config=options.model, channels_last=channels_last, **settings)
    module.model = build_model(options.model, CLASSES, image_size=(options.size, options.size)).to(options.device)
    module.model.train_auxiliary = auxiliary
    if not auxiliary:  # as model.aux_loss_weight 0 does it
        plan = module.model.plan
        for index in set(plan.needed(plan.main, plan.aux)) - set(plan.needed(plan.main)):
            module.model.layer(index).requires_grad_(False)
    module.last = is_faster(torch.device(options.device)) if channels_last is None else channels_last
    if module.last:
        arrange(module.model)
    module._compiled = compiled(module.model, compile)
    return module.train()


def ours(
    options: argparse.Namespace,
    *,
    auxiliary: bool = True,
    channels_last: bool | None = None,
    keep: bool = True,
    compile: bool = False,
) -> tuple[torch.nn.Module, Callable[[], Step]]:
    from yolo.training.callbacks import EMACallback
    from yolo.training.host_memory import keep_freed_memory
    from yolo.training.optim import build_optimizer

    if keep and options.device == "cpu":
        keep_freed_memory()
    module = our_module(options, auxiliary=auxiliary, channels_last=channels_last, compile=compile)
    images, *targets = batch_of(options)
    autocast, scaler = precision(options)
    optimizer, ema = build_optimizer(module.model, module.config), EMACallback()
    trainer = SimpleNamespace(global_step=0)
    ema.on_fit_start(trainer, module)

    def step() -> Step:
        with autocast():
            x = images.contiguous(memory_format=torch.channels_last) if module.last else images
            x = x.float() / 255
            yield "float"
            output = module(x)
            yield "forward"
            loss = module.compute_loss(output, *targets).total * len(images)
            del output
            yield "loss"
        scaler.scale(loss).backward()
        yield "backward"
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(module.model.parameters(), CLIP)
        yield "clip"
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        yield "optimiser"
        trainer.global_step += 1
        ema.on_train_batch_end(trainer, module)
        yield "EMA"

    return module.model, step


def ultralytics(options: argparse.Namespace) -> tuple[torch.nn.Module, Callable[[], Step]]:
    from ultralytics.cfg import get_cfg
    from ultralytics.engine.trainer import BaseTrainer
    from ultralytics.nn.tasks import DetectionModel
    from ultralytics.utils.torch_utils import ModelEMA

    model = DetectionModel(PEER_MODELS[options.model], ch=3, nc=CLASSES, verbose=False).to(options.device).train()
    model.args = get_cfg()
    settings = {"name": "SGD", "lr": RATE, "momentum": MOMENTUM, "decay": DECAY}
    optimizer = BaseTrainer.build_optimizer(SimpleNamespace(args=model.args, data={"nc": CLASSES}), model, **settings)
    ema = ModelEMA(model)
    images, boxes, labels, index = batch_of(options)
    side = boxes[:, 2:] - boxes[:, :2]
    targets = {
        "batch_idx": index.float(),
        "cls": labels.float()[:, None],
        "bboxes": torch.cat((boxes[:, :2] + side / 2, side), dim=1) / options.size,
    }
    autocast, scaler = precision(options)

    def step() -> Step:
        with autocast():
            x = images.float() / 255
            yield "float"
            output = model(x)
            yield "forward"
            loss = model.loss({**targets, "img": x}, output)[0].sum()
            del output
            yield "loss"
        scaler.scale(loss).backward()
        yield "backward"
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        yield "clip"
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        yield "optimiser"
        ema.update(model)
        yield "EMA"

    return model, step


def through_lightning(options: argparse.Namespace, take: Callable[[Callable[[], Step], int], None]) -> None:
    """Let Lightning's Trainer ask for batches: it gets one when a step is wanted, so that the step lasts till the next.

    Args:
        options: of the run.
        take: called once with a function that makes a step, and the number of parameters.
    """
    from threading import Event, Thread

    from lightning.pytorch import Trainer

    from yolo.data.types import Batch
    from yolo.training.callbacks import EMACallback
    from yolo.training.datamodule import YOLODataModule
    from yolo.training.module import YOLOModule

    images, boxes, labels, index = (tensor.cpu() for tensor in batch_of(options))
    wanted, asked = Event(), Event()
    batch = _filled(Batch, images=images, boxes=boxes, labels=labels, image_index=index)

    class Batches:
        def __len__(self) -> int:
            return 1_000_000

        def __iter__(self) -> Iterator[Batch]:
            while True:
                asked.set()
                wanted.wait()
                wanted.clear()
                yield batch

    class Data(YOLODataModule):
        def setup(self, stage: str) -> None: ...

        @property
        def class_names(self) -> tuple[str, ...]:
            return tuple(map(str, range(CLASSES)))

        def optimizer_steps_per_epoch(self) -> int:
            return 1_000_000

        def train_dataloader(self) -> Batches:
            return Batches()

    def step() -> Step:
        asked.wait()
        asked.clear()
        wanted.set()
        asked.wait()
        yield "EMA"

    trainer = Trainer(
        accelerator=options.device,
        devices=1,
        precision={"fp16": "16-mixed", "bf16": "bf16-mixed"}.get(options.amp, "32-true"),
        max_epochs=1,
        gradient_clip_val=CLIP,
        callbacks=[EMACallback()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        use_distributed_sampler=False,
    )
    module = YOLOModule(model_config=options.model, learning_rate=RATE, momentum=MOMENTUM, weight_decay=DECAY)
    data = Data(image_size=options.size, batch_size=options.batch)

    def turns() -> None:
        asked.wait()
        take(step, trained(module.model))
        os._exit(0)

    Thread(target=turns, daemon=True).start()
    trainer.fit(module, datamodule=data)


def _filled(kind: type, **known: torch.Tensor) -> object:
    """A batch of which only what a step reads is there."""
    made = object.__new__(kind)
    for name in kind.__dataclass_fields__:
        object.__setattr__(made, name, known.get(name))
    return made


def trained(model: torch.nn.Module) -> int:
    """Number of parameters that a step changes."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def synchronised(options: argparse.Namespace) -> tuple[float, float]:
    """The time on the clock, and of the processor, when all that was asked for is done."""
    if options.device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter(), time.process_time()


def peak(options: argparse.Namespace) -> float:
    """MiB."""
    if options.device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def one(options: argparse.Namespace) -> None:
    """Make steps in this process as told by lines of JSON, and answer with lines of JSON."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    settings = dict(OURS.get(options.one, {}))
    if settings.pop("lightning", False):
        through_lightning(options, lambda step, parameters: answer(options, step, parameters))
        return
    model, step = ours(options, **settings) if options.one in OURS else ultralytics(options)
    answer(options, step, trained(model))


def answer(options: argparse.Namespace, step: Callable[[], Step], parameters: int) -> None:
    """Make steps as long as they are wanted."""
    say = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed is no answer
    for line in sys.stdin:
        count, by_stage = json.loads(line)
        list(step())
        spent: dict[str, list[float]] = {name: [0.0, 0.0] for name in STAGES}
        begin = before = synchronised(options)
        for _ in range(count):
            for stage in step():
                if by_stage:
                    now = synchronised(options)
                    spent[stage] = [old + b - a for old, a, b in zip(spent[stage], before, now, strict=True)]
                    before = now
        end = synchronised(options)
        clock, busy = ((b - a) / count for a, b in zip(begin, end, strict=True))
        found = {"clock": clock, "busy": busy, "memory": peak(options), "parameters": parameters}
        found["stages"] = {name: [value / count for value in pair] for name, pair in spent.items()}
        with contextlib.suppress(AttributeError):  # so that the others have room
            ctypes.CDLL(None).malloc_trim(0)
        print(json.dumps(found), file=say, flush=True)


class Side:
    """A process that makes steps when asked."""

    def __init__(self, name: str, model: str, size: int, options: argparse.Namespace, folder: str) -> None:
        arguments = ["--one", name, "--model", model, "--size", str(size), "--device", options.device]
        arguments += ["--batch", str(options.batch), "--boxes", str(options.boxes), "--threads", str(options.threads)]
        arguments += ["--amp", options.amp]
        threads = str(options.threads)
        environment = {**os.environ, "YOLO_CONFIG_DIR": folder, "YOLO_OFFLINE": "true", "OMP_NUM_THREADS": threads}
        self.name, self.errors = name, Path(folder) / "errors"
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                command(name, options) + arguments,
                env=environment, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
            )  # fmt: skip

    def make(self, steps: int, *, by_stage: bool = False) -> dict:
        assert self.process.stdin is not None and self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps([steps, by_stage]), file=self.process.stdin, flush=True)
        line = next((line for line in self.process.stdout if line.startswith("{")), None)
        if line is None:
            sys.exit(f"{self.name} failed:\n{self.errors.read_text()}")
        return json.loads(line)

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def command(name: str, options: argparse.Namespace) -> list[str]:
    """How to run this file for one side."""
    script = str(Path(__file__).resolve())
    if name in OURS:
        return [sys.executable, script]
    if options.peer_python:
        return [options.peer_python, script]
    version = torch.__version__.split("+")[0]
    # --no-project: the peer's environment is its own, outside of our lock
    packages = ["--with", PEER, "--with", f"torch=={version}"]
    return ["uv", "run", "--no-project", "--python", sys.executable, *packages, "python", script]


def compare(model: str, size: int, options: argparse.Namespace) -> dict[str, dict]:
    """Print the rows of one network at one size, and return the stages of every side."""
    sides: list[Side] = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            found: dict[str, list[dict]] = {name: [] for name in options.sides}
            for number, name in enumerate(options.sides):
                place = Path(folder) / str(number)
                place.mkdir()
                sides.append(Side(name, model, size, options, str(place)))
                sides[-1].make(1)  # loads what is loaded lazily, while nobody else works
            for _ in range(options.rounds):
                for side in sides:
                    found[side.name].append(side.make(options.steps))
            stages = {side.name: side.make(max(2, options.steps), by_stage=True)["stages"] for side in sides}
        finally:
            for side in sides:
                side.end()
    for name, runs in found.items():
        peer = found.get("ultralytics", runs)
        ratios = [
            statistics.median(own[key] / other[key] for own, other in zip(runs, peer, strict=True))
            for key in ("clock", "busy", "memory")
        ]
        clock, busy, memory = (statistics.median(run[key] for run in runs) for key in ("clock", "busy", "memory"))
        cells = [model, size, name, f"{runs[0]['parameters'] / 1e6:.2f}", f"{clock * 1000:.0f}", f"{busy * 1000:.0f}"]
        cells += [f"{options.batch / clock:.1f}", f"{memory:.0f}", *(f"{ratio:.2f}" for ratio in ratios)]
        print(f"| {' | '.join(map(str, cells))} |", flush=True)
    return stages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["v9-t", "v9-s"], choices=PEER_MODELS)
    parser.add_argument("--sizes", type=int, nargs="+", default=[320, 640])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--boxes", type=int, default=8, help="in each image")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--amp", choices=["none", "bf16", "fp16"], default="none", help="mixed precision, on all sides")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2, help="that count, each time a side has its turn")
    parser.add_argument("--sides", nargs="+", default=list(USUAL), choices=SIDES, metavar="SIDE")
    parser.add_argument("--peer-python", help="Python of an environment that has the peer, where uv cannot make one")
    parser.add_argument("--one", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--model", help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options)
        return
    place = torch.cuda.get_device_name() if options.device == "cuda" else f"{options.threads} threads"
    print(f"torch {torch.__version__}, {PEER}, Python {platform.python_version()}, {place}, batch {options.batch}, ")
    print(f"{options.boxes} boxes an image, mixed precision: {options.amp}; {os.cpu_count()} cores, load ", end="")
    print(f"{os.getloadavg()[0]:.1f} before\n")
    print("| | size | | M parameters | ms a step | ms of processors | images a second | MiB | ", end="")
    print("time ratio | processor ratio | memory ratio |\n" + "|---" * 11 + "|", flush=True)
    stages = {(model, size): compare(model, size, options) for model in options.models for size in options.sizes}
    clock = int(options.device == "cpu")
    print(f"\n| ms {'of processors' * clock or 'a step'} | size | | {' | '.join(STAGES)} | all |")
    print("|---" * (len(STAGES) + 4) + "|")
    for (model, size), sides in stages.items():
        for name, spent in sides.items():
            times = [spent[stage][clock] * 1000 for stage in STAGES]
            if OURS.get(name, {}).get("lightning"):
                continue
            print(f"| {model} | {size} | {name} | {' | '.join(f'{time:.1f}' for time in (*times, sum(times)))} |")
    print(f"\nload {os.getloadavg()[0]:.1f} after")


if __name__ == "__main__":
    main()
