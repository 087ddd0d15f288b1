"""Eight bits for weights and activations, by onnxruntime, with ranges that training images tell."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torch import Tensor

from robust_hub.export.onnx_file import IMAGES

BATCH = 16


def quantise(file: Path, quantised: Path, calibration: Tensor) -> None:
    """Quantises a network: weights by channel, activations by their smallest and largest value.

    Args:
        file: ONNX, as `write_onnx` writes it.
        quantised: to write; ONNX as well, with the facts of the first.
        calibration: images that nothing is measured on, as the file takes them.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Images(CalibrationDataReader):
        """Yields the images in batches, once."""

        def __init__(self):
            self.batches: Iterator[np.ndarray] = iter(batch.numpy() for batch in calibration.split(BATCH))

        def get_next(self) -> dict[str, np.ndarray]:
            batch = next(self.batches, None)
            return {} if batch is None else {IMAGES: batch}

    prepared = quantised.with_name(quantised.name + ".prepared")
    try:
        quant_pre_process(str(file), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(quantised),
            Images(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        model, facts = onnx.load(quantised), {each.key: each.value for each in onnx.load(file).metadata_props}
        onnx.helper.set_model_props(model, {**facts, "precision": "int8"})
        onnx.save(model, quantised)
    finally:
        prepared.unlink(missing_ok=True)
