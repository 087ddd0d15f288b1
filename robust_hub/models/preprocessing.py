"""How photos of any size become the images that a classifier takes; plain values, which config.json tells."""

from dataclasses import dataclass

CROP_MODES = ("center", "squash", "border")
# No model wants it: what was done to the images of evaluations that do not tell.
COVER = "cover"
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos", "random")
# A smaller share would make a huge image of an ordinary one first.
LEAST_CROP, MOST_CROP = 0.1, 2.0


@dataclass(frozen=True)
class Preprocessing:
    """What a classifier wants of its images, as timm means it.

    Attributes:
        input_size: channels, height and width.
        crop_pct: the share of a side that the crop keeps; the image is resized to the size divided by it before.
        crop_mode: center keeps the proportions and cuts what is too long, squash gives the proportions up, border adds
            a border to what is too short; cover is center, but for rounding.
        interpolation: by which it is resized; random is bilinear wherever nothing is drawn at random.
        fill: the colour of the border, a level of 0 to 255 for each channel; empty without one.

    Raises:
        ValueError: when one of them is none.
    """

    input_size: tuple[int, int, int]
    crop_pct: float = 1.0
    crop_mode: str = "center"
    interpolation: str = "bilinear"
    fill: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not LEAST_CROP <= self.crop_pct <= MOST_CROP:
            raise ValueError(f"crop_pct must be a share of {LEAST_CROP} to {MOST_CROP}, got {self.crop_pct}")
        if self.crop_mode not in (*CROP_MODES, COVER):
            raise ValueError(f"crop_mode must be one of {', '.join(CROP_MODES)}, got {self.crop_mode!r:.80}")
        if self.fill and (len(self.fill) != self.input_size[0] or not all(0 <= level <= 255 for level in self.fill)):
            raise ValueError(f"fill must be a level of 0 to 255 for each channel, got {self.fill!r:.80}")
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(
                f"interpolation must be one of {', '.join(INTERPOLATIONS)}, got {self.interpolation!r:.80}"
            )

    @classmethod
    def of_before(cls, input_size: tuple[int, int, int]) -> "Preprocessing":
        """Tells what was done to the images of evaluations that do not tell, whatever the classifier wanted."""
        return cls(input_size, crop_mode=COVER)

    def __str__(self) -> str:
        """Writes it in one line."""
        _, height, width = self.input_size
        return f"{width}x{height} px, {self.interpolation}, {self.crop_mode} crop of {self.crop_pct:g}"
