"""Classifiers of images in [0, 1], the teacher among them, and networks for small images that timm lacks."""

from .arguments import describes_network as describes_network
from .create import create_classifier as create_classifier
from .create import is_stock as is_stock
from .create import own_size as own_size
from .create import with_mlp_head as with_mlp_head
from .pixel_classifier import Passes as Passes
from .pixel_classifier import PixelClassifier as PixelClassifier
from .pixel_classifier import check_channels as check_channels
from .pixel_classifier import check_label_names as check_label_names
from .pixel_classifier import knows_label_names as knows_label_names
from .teacher import Teacher as Teacher
