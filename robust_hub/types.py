"""The tensors everything here is written in. Pixels are in [0, 1] everywhere outside PixelClassifier."""

from jaxtyping import Bool, Float, Int
from torch import Tensor

Images = Float[Tensor, "n c h w"]
Labels = Int[Tensor, " n"]
# The probability of each class for an image, where it is not all that of one.
SoftLabels = Float[Tensor, "n k"]
Targets = Labels | SoftLabels
Logits = Float[Tensor, "n k"]
Features = Float[Tensor, "n d"]
PerExample = Float[Tensor, " n"]
Mask = Bool[Tensor, " n"]
