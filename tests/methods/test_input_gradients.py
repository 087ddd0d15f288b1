import torch

from robust_hub.methods.input_gradients import GradientOptions, students_gradient


def own_gradients(student, images: torch.Tensor) -> torch.Tensor:
    """The gradient of each image's first logit for that image alone, in train mode."""
    gradients = []
    for number in range(len(images)):
        pixels = images.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(student(pixels)[number, 0], pixels)
        gradients.append(gradient[number])
    return torch.stack(gradients)


def test_without_batch_statistics_signs_change_nothing(create_smooth, images):
    student = create_smooth()
    pixels = images.clone().requires_grad_()
    gradient = students_gradient(student(pixels)[:, 0], pixels, student)
    torch.testing.assert_close(gradient.detach(), own_gradients(student, images))


def test_what_batch_statistics_mix_in_from_other_images_cancels_on_average(create_cnn, images):
    student = create_cnn().train()
    wanted = own_gradients(student, images)
    pixels = images.clone().requires_grad_()
    (summed,) = torch.autograd.grad(student(pixels)[:, 0].sum(), pixels)
    found = torch.stack([students_gradient(student(pixels)[:, 0], pixels, student).detach() for _ in range(400)])
    # What is mixed in has mean 0; over 400 draws a twentieth of it is left.
    assert (found.mean(0) - wanted).norm() < 0.15 * (summed - wanted).norm()


def test_its_derivative_is_that_of_the_gradient(create_smooth, slopes, images):
    student = create_smooth().double()
    weights = list(student.parameters())[:-1]  # gradients do not depend on the head's bias

    def squared() -> torch.Tensor:
        pixels = images.double().requires_grad_()
        return students_gradient(student(pixels)[:, 0], pixels, student).square().sum()

    slopes(squared, weights, torch.autograd.grad(squared(), weights))


def test_the_share_of_a_step_follows_start_ramp_and_period():
    class Options(GradientOptions):
        method = "some"

    assert [Options(start=0.5, ramp=0.4).share(step, 10) for step in range(10)] == [0] * 5 + [0.25, 0.5, 0.75, 1, 1]
    assert [Options(period=2, ramp=0.0).share(step, 5) for step in range(5)] == [2, 0, 2, 0, 2]
