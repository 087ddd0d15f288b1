"""A classifier as one file for where there is no timm, checked against the classifier, and attacked once quantised."""

from .agreement import Agreement as Agreement
from .agreement import compare as compare
from .choices import Format as Format
from .choices import Pixels as Pixels
from .choices import Precision as Precision
from .exporting import Exported as Exported
from .exporting import export_model as export_model
from .network import PixelNetwork as PixelNetwork
from .onnx_file import OPSET as OPSET
from .onnx_file import OnnxClassifier as OnnxClassifier
from .onnx_file import write_onnx as write_onnx
from .transfer import Withstood as Withstood
