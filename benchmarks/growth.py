"""How the images a second of a training grow with the number of machines: a simulation, and its check on two processes.

    python benchmarks/growth.py check IMAGENETTE
    python benchmarks/growth.py table [--devices 8 --batch 1024 ...]

A step is simulated machine by machine: each decodes its photos of the batch, whose times are drawn, beside the step
before or, where it has no core to spare, after it; all wait for the slowest; then the gradients go around in a ring:
2 (N - 1) messages, each with a latency and an N-th of the gradients. Nothing of that is hidden behind the backward
pass, which is the worst case. `check` measures what one process needs for its photos and its step, and what an
all-reduce of two sizes takes between two; predicts the step of two; and measures that. `table` is on paper.
"""

import io
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import timm
import torch
import torch.distributed as dist
import tyro
from datasets import Image, load_dataset
from PIL import Image as PILImage
from tabulate import tabulate
from timm.data import create_transform
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

ARCHITECTURE, SIDE, BATCH, STEPS, WARM_UP = "resnet18", 96, 16, 12, 2
SIZES = (2**20, 2**24)


@dataclass(frozen=True)
class Ring:
    """What lies between the machines: seconds a message, and bytes a second."""

    latency: float
    bandwidth: float

    def seconds(self, machines: int, size: int) -> float:
        """Tells how long an all-reduce of so many bytes takes."""
        messages = 2 * (machines - 1)
        return messages * (self.latency + size / machines / self.bandwidth)


@dataclass(frozen=True)
class Machine:
    """What a machine does.

    Attributes:
        compute: seconds an image for forward and backward.
        decode: seconds a photo on one core, of each of many photos.
        cores: that decode.
        beside: whether they decode the next batch during a step, or have the step to take as well.
    """

    compute: float
    decode: np.ndarray
    cores: int
    beside: bool


def simulate(machine: Machine, ring: Ring, *, machines: int, local: int, size: int, steps: int = 200) -> float:
    """Tells the seconds of a step of `machines` that take `local` images each and exchange `size` bytes."""
    rng = np.random.default_rng(0)
    photos = rng.choice(machine.decode, (steps, machines, local)).sum(-1) / machine.cores
    compute = machine.compute * local
    times = np.maximum(photos, compute) if machine.beside else photos + compute
    return float(times.max(-1).mean()) + ring.seconds(machines, size)


def table(
    gigaflop: float = 24.3,
    tera: float = 989.0,
    utilisation: float = 0.1,
    devices: int = 8,
    cores: int = 96,
    photos_a_second: float = 100.0,
    spread: float = 0.5,
    gigabytes_a_second: float = 25.0,
    latency: float = 2e-5,
    parameters: float = 25.6e6,
    batch: int = 1024,
) -> None:
    """Prints what is simulated for a ResNet-50 at 224 px.

    Args:
        gigaflop: of a step, an image; benchmarks/bill.py counts it for each recipe.
        tera: 10^12 operations that a device does in a second at most.
        utilisation: which share of that training reaches.
        devices: of a machine.
        cores: of a machine, all of which decode.
        photos_a_second: that a core decodes; benchmarks/decoding.py measures it.
        spread: standard deviation of a photo's time over its mean.
        gigabytes_a_second: between two machines.
        latency: of a message, in seconds.
        parameters: whose gradients are exchanged, in float32.
        batch: images of a step, over all machines.
    """
    shape = 1 / spread**2
    decode = np.random.default_rng(0).gamma(shape, 1 / shape / photos_a_second, 100_000)
    compute = gigaflop * 1e9 / (tera * 1e12 * utilisation * devices)
    ring, rows, size = Ring(latency, gigabytes_a_second * 1e9), [], int(4 * parameters)
    for machines in (1, 2, 4, 8, 16, 32):
        local = batch // machines
        row = [machines, local, 1e3 * ring.seconds(machines, size)]
        for photos in (decode, np.zeros(1)):
            step = simulate(
                Machine(compute, photos, cores, beside=True), ring, machines=machines, local=local, size=size
            )
            row += [local * machines / step, local / step * compute]
        rows.append(row)
    headers = ["machines", "images each", "all-reduce, ms", "images / s, decoding", "of the devices' rate"]
    headers += ["images / s, kept", "of the devices' rate"]
    print(tabulate(rows, headers, tablefmt="github", floatfmt=("", "", ".1f", ",.0f", ".0%", ",.0f", ".0%")))


def check(photos: tyro.conf.Positional[Path], port: int = 29611) -> None:
    """Predicts a step of two processes from what one does, and measures it; each has a core of its own.

    Args:
        photos: folder of a data set of photos.
        port: of this machine, where the two meet.
    """
    rows = load_dataset(str(photos), split="train")
    [column] = [name for name, feature in rows.features.items() if isinstance(feature, Image)]
    files = [
        row["bytes"] or Path(row["path"]).read_bytes()
        for row in rows.cast_column(column, Image(decode=False))[column][:200]
    ]
    torch.multiprocessing.spawn(measure, (files, port), nprocs=2)


def measure(rank: int, files: list[bytes], port: int) -> None:
    """Is one of the two processes; the first one prints."""
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[rank]})
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    torch.manual_seed(0)
    model, rng = timm.create_model(ARCHITECTURE), np.random.default_rng(rank)
    transform = create_transform((3, SIDE, SIDE), is_training=True, normalize=False)

    def photo(number: int) -> torch.Tensor:
        return transform(PILImage.open(io.BytesIO(files[number])).convert("RGB")).float() / 255

    def step(network: torch.nn.Module, images: torch.Tensor) -> None:
        network.zero_grad()
        cross_entropy(network(images), torch.zeros(BATCH, dtype=torch.int64)).backward()

    def whole(network: torch.nn.Module) -> None:
        step(network, torch.stack([photo(number) for number in rng.choice(len(files), BATCH)]))

    decode = np.array([timed(partial(photo, number)) for number in range(len(files))])
    images = torch.rand(BATCH, 3, SIDE, SIDE)
    dist.barrier()
    # Both at once, as they share the memory of one machine later as well.
    compute = median(partial(step, model, images)) / BATCH
    small, large = (median(partial(dist.all_reduce, torch.zeros(size // 4))) for size in SIZES)
    bandwidth = (SIZES[1] - SIZES[0]) / (large - small)
    ring = Ring(max(0.0, (small - SIZES[0] / bandwidth) / 2), bandwidth)
    size = 4 * sum(parameter.numel() for parameter in model.parameters())
    machine = Machine(compute, decode, cores=1, beside=False)
    settings = {"local": BATCH, "size": size}
    alone = median(partial(whole, model))
    dist.barrier()
    together = median(partial(whole, DistributedDataParallel(model)))
    if rank == 0:
        print(
            f"{ARCHITECTURE} at {SIDE} px, {BATCH} photos a process, {size / 1e6:.0f} MB of gradients over gloo on "
            f"loopback; {1e3 * decode.mean():.1f} ms a photo, {1e3 * compute:.1f} ms an image; "
            f"{1e3 * ring.latency:.2f} ms and {ring.bandwidth / 1e9:.2f} GB/s a message; torch {torch.__version__}\n"
        )
        table_rows = []
        for processes, measured in ((1, alone), (2, together)):
            simulated = simulate(machine, ring, machines=processes, **settings)
            table_rows.append([processes, simulated, measured, simulated / measured])
        headers = ["processes", "s a step, simulated", "measured", "ratio"]
        print(tabulate(table_rows, headers, tablefmt="github", floatfmt=("", ".3f", ".3f", ".2f")))
    dist.destroy_process_group()


def median(work: Callable[[], object]) -> float:
    """Times some work again and again."""
    return statistics.median([timed(work) for _ in range(STEPS + WARM_UP)][WARM_UP:])


def timed(work: Callable[[], object]) -> float:
    """Times some work."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"check": check, "table": table})
