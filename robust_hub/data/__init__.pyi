"""Any image-classification data set, as train, validation and test, and loaders that yield images in [0, 1]."""

from .builtin import BUILTIN as BUILTIN
from .datasets import load_data as load_data
from .datasets import load_test_data as load_test_data
from .facts import DataFacts as DataFacts
from .finding import Found as Found
from .finding import find_images as find_images
from .fingerprint import Fingerprints as Fingerprints
from .fingerprint import data_sha256 as data_sha256
from .fingerprint import fingerprints_of as fingerprints_of
from .fingerprint import sha256_in_order as sha256_in_order
from .fingerprint import tested_sha256 as tested_sha256
from .loaders import Loader as Loader
from .loaders import batch_size_for as batch_size_for
from .loaders import batches_of as batches_of
from .loaders import evaluation_loader as evaluation_loader
from .loaders import training_loader as training_loader
from .photos import find_photos as find_photos
from .photos import read_photo as read_photo
from .sharding import Shard as Shard
from .sharding import mix as mix
from .source import Augmentation as Augmentation
from .source import Rule as Rule
from .source import Source as Source
from .three_splits import Data as Data
from .three_splits import subset as subset
