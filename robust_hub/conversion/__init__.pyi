"""Brings robust checkpoints that others trained into our form: read without running code, mapped, proven."""

from .mapping import Mapping as Mapping
from .mapping import Pair as Pair
from .mapping import find_mapping as find_mapping
from .normaliser import Normaliser as Normaliser
from .proof import import_original as import_original
from .proof import prove as prove
from .proof import stock_original as stock_original
from .reading import Foreign as Foreign
from .reading import read_checkpoint as read_checkpoint
from .target import Outputs as Outputs
from .target import count_classes as count_classes
from .target import create_target as create_target
from .target import fill as fill
from .target import outputs_of as outputs_of
from .target import settle_normaliser as settle_normaliser
from .target import weights_to_fill as weights_to_fill
