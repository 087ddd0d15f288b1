"""Classifiers of images in [0, 1], the teacher among them, and networks for small images that timm lacks."""

from .arguments import describes_network as describes_network
from .classes import imagenet_synsets as imagenet_synsets
from .classes import lacking as lacking
from .classes import order_by_name as order_by_name
from .classes import possible_orders as possible_orders
from .create import check_arguments as check_arguments
from .create import create_classifier as create_classifier
from .create import images_for as images_for
from .create import is_stock as is_stock
from .create import own_size as own_size
from .create import with_mlp_head as with_mlp_head
from .pixel_classifier import Passes as Passes
from .pixel_classifier import PixelClassifier as PixelClassifier
from .pixel_classifier import TimmModel as TimmModel
from .pixel_classifier import check_channels as check_channels
from .preprocessing import CROP_MODES as CROP_MODES
from .preprocessing import Preprocessing as Preprocessing
from .teacher import Teacher as Teacher
