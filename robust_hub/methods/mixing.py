"""Mixed images and their soft labels: mixup, cutmix and label smoothing, for every method that mixes."""

import numpy as np

from robust_hub.types import Images, Labels, SoftLabels


def mix_images(
    images: Images,
    labels: Labels,
    *,
    num_classes: int,
    mixup: float = 0.0,
    cutmix: float = 0.0,
    label_smoothing: float = 0.0,
) -> tuple[Images, SoftLabels]:
    """Mixes each image of a batch with its mirror place in the batch, all by one share.

    Args:
        images: in an order that is drawn anew for each epoch.
        labels: of these images.
        num_classes: how many there are.
        mixup: concentration of the Beta distribution of the share by which whole images are blended; 0 never does.
        cutmix: that of the share which a rectangle of the other image leaves; 0 never does. Where both are above 0,
            each batch is blended or cut with equal odds.
        label_smoothing: the share of the labels that is spread over all classes.

    Returns:
        The images, and the probability of each class for them.

    Source: Zhang et al., ICLR 2018, arXiv 1710.09412; Yun et al., ICCV 2019, arXiv 1905.04899; the box and the labels
        are timm's.
    """
    # Imported here, as command lines tell of the methods' options and should answer at once.
    from timm.data.mixup import cutmix_bbox_and_lam, mixup_target

    share = 1.0
    if mixup or cutmix:
        cuts = bool(cutmix) and (not mixup or np.random.rand() < 0.5)
        concentration = cutmix if cuts else mixup
        share = np.random.beta(concentration, concentration)
        others = images.flip(0)
        if cuts:
            (top, bottom, left, right), share = cutmix_bbox_and_lam(images.shape, share)
            images = images.clone()
            images[:, :, top:bottom, left:right] = others[:, :, top:bottom, left:right]
        else:
            images = share * images + (1 - share) * others
    return images, mixup_target(labels, num_classes, share, label_smoothing)
