"""A plainly trained network, made in passing: images that fool it must not fool a model that attacks do not."""

import torch
from torch import nn

from robust_hub.data import Data, Source, training_loader, with_augmentation
from robust_hub.losses import cross_entropy
from robust_hub.models import Teacher, create_classifier

STEPS = 300
BATCH = 128
ARCHITECTURE, MODEL_ARGS = "resnet18_cifar", {"layers": (1, 1, 1, 1), "channels": (8, 16, 32, 64)}
# Pixels of a side, of the images that it learns from as they are.
SMALL = 64


def train_surrogate(data: Data, source: Source, device: torch.device, *, seed: int) -> nn.Module:
    """Trains a small ResNet for 300 steps on the cross-entropy of clean images, each process the same one.

    It takes images of any size; large ones it makes smaller itself, by a differentiable map, as it would take hours to
    learn from them as they are.

    Args:
        data: its train split is learnt from.
        source: says how to augment.
        device: where it lives.
        seed: of its weights and batches; the global generator is left alone.
    """
    channels, *sides = data.image_shape
    is_small = max(sides) <= SMALL
    shape = data.image_shape if is_small else (channels, SMALL, SMALL)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = create_classifier(ARCHITECTURE, MODEL_ARGS, num_classes=data.num_classes, image_shape=shape).to(
            device
        )
        loader = training_loader(
            data.train,
            network.preprocessing,
            batch_size=min(BATCH, len(data.train)),
            augmentation=with_augmentation(source, data, network.input_size).augmentation,
            seed=seed,
            device=device,
        )
        optimizer = torch.optim.AdamW(network.train().parameters(), lr=0.003)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.003, total_steps=STEPS)
        step, epoch = 0, 0
        while step < STEPS:
            loader.set_epoch(epoch := epoch + 1)
            for (images, labels), _ in zip(loader, range(STEPS - step), strict=False):
                optimizer.zero_grad()
                cross_entropy(network(images), labels).mean().backward()
                optimizer.step()
                schedule.step()
                step += 1
    return network.eval() if is_small else Teacher(network)
