"""What a user chooses between; without torch, as help must come at once."""

from typing import Literal

Format = Literal["onnx", "torch-export"]
# Of what a file takes: numbers in [0, 1], or bytes as a camera gives them.
Pixels = Literal["float32", "uint8"]
# Of weights and activations.
Precision = Literal["float32", "int8"]
