"""Input gradient alignment: the student finds important what the robust teacher finds important."""

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from robust_hub.classifiers import PixelClassifier, Teacher
from robust_hub.losses import cross_entropy, squared_distance
from robust_hub.methods.base import Losses, Objective, check_same_task
from robust_hub.types import Images, Labels


class IGAM(Objective):
    """Cross-entropy plus the squared distance between the input gradients of student and teacher."""

    def __init__(self, student: PixelClassifier, teacher: Teacher, *, weight: float, noise: float = 0.0, ramp: int = 0):
        super().__init__()
        check_same_task(student, teacher)
        self.student, self.teacher = student, teacher
        self.weight, self.noise, self.ramp = weight, noise, ramp
        self.register_buffer("step", torch.zeros((), dtype=torch.long))

    def forward(self, images: Images, labels: Labels) -> Losses:
        """Computes the loss of a batch."""
        with torch.autocast(images.device.type, enabled=False), sdpa_kernel(SDPBackend.MATH):
            noisy = (images + self.noise * (2 * torch.rand_like(images) - 1)).clamp(0, 1).requires_grad_()
            taught = self._input_gradient(cross_entropy(self.teacher(noisy), labels).sum(), noisy, create_graph=False)
            label_terms = cross_entropy(self.student(noisy), labels)
            gradient = self._input_gradient(label_terms.sum(), noisy, create_graph=True)
            gradient.register_hook(self.student.count_backward)
            gradient_term = squared_distance(gradient, taught).mean()
            label_term = label_terms.mean()
        weight = self.weight * (min(1.0, self.step.item() / self.ramp) if self.ramp else 1.0)
        self.step += 1
        terms = {"cross_entropy": label_term.detach(), "gradient_distance": gradient_term.detach()}
        return Losses(label_term + weight * gradient_term, terms)

    def _input_gradient(self, loss: Tensor, images: Images, *, create_graph: bool) -> Images:
        (gradient,) = torch.autograd.grad(loss, images, create_graph=create_graph)
        return gradient
