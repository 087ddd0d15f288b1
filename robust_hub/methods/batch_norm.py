"""BatchNorm whose second derivatives are as fast as its first: torch sums them dimension by dimension."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Has the arguments of torch.nn.functional.batch_norm, which it is where nothing is taken of the batch.

    Args:
        input: n c h w, or with fewer or more dimensions behind the channels.
        running_mean: of each channel, brought up to date.
        running_var: of each channel, brought up to date.
        weight: of each channel.
        bias: of each channel.
        training: whether the statistics are those of the batch.
        momentum: of the running statistics.
        eps: added to the variance.

    Source: the derivatives are those of Ioffe and Szegedy, ICML 2015, arXiv 1502.03167, section 3, taken once more.
    """
    if training and weight is not None and bias is not None:
        return _BatchNorm.apply(input, running_mean, running_var, weight, bias, momentum, eps)
    return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images, running_mean, running_var, weight, bias, momentum, eps):
        normalised, mean, inverse = torch.native_batch_norm(
            images, weight, bias, running_mean, running_var, True, momentum, eps
        )
        ctx.save_for_backward(images, weight, mean, inverse)
        ctx.eps = eps
        return normalised

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor):
        images, weight, mean, inverse = ctx.saved_tensors
        of_images, of_weight, of_bias = _Backward.apply(*gradients, images, weight, mean, inverse, ctx.eps)
        return of_images, None, None, of_weight, of_bias, None, None


class _Backward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gradient, images, weight, mean, inverse, eps):
        ctx.save_for_backward(gradient, images, weight, mean, inverse)
        ctx.set_materialize_grads(False)
        return torch.ops.aten.native_batch_norm_backward(
            gradient, images, weight, None, None, mean, inverse, True, eps, [True, True, True]
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None):
        """Differentiates <u, dx> + <p, dw> + <q, db>, where u, p and q are the gradients of the three."""
        g, images, weight, mean, inverse = ctx.saved_tensors
        u, *others = gradients
        u = torch.zeros_like(images) if u is None else u
        axes, shape = [0, *range(2, images.ndim)], [1, -1, *[1] * (images.ndim - 2)]
        # With batches in bfloat16 these are float32, and what they are multiplied with becomes that.
        weight, mean, s = (each.view(shape) for each in (weight, mean, inverse))
        p, q = (torch.zeros_like(s) if each is None else each.view(shape) for each in others)
        normal = (images - mean) * s

        def average(values: Tensor) -> Tensor:
            return values.mean(axes, keepdim=True, dtype=s.dtype)

        u_, g_, un, gn = average(u), average(g), average(u * normal), average(g * normal)
        # <u, dx> = weight s n together.
        together, ws = average(u * g) - u_ * g_ - un * gn, weight * s
        of_gradient = (ws * u).addcmul_(normal, p - ws * un).add_(q - ws * u_)
        constant = s * (ws * (u_ * gn + g_ * un) - p * g_)
        along = s * (2 * ws * un * gn - p * gn - ws * together)
        of_images = (-s * ws * gn * u).addcmul_(g, s * (p - ws * un)).addcmul_(normal, along).add_(constant)
        of_weight = (s * together).flatten() * (images.numel() // images.shape[1])
        return of_gradient.to(g.dtype), of_images.to(images.dtype), of_weight, None, None, None
