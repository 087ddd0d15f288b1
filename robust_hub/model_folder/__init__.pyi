"""The folder of a published model: where it comes from, what it claims, its card; read, checked, loaded, written."""

from .card import NOTES_BEGIN as NOTES_BEGIN
from .card import NOTES_END as NOTES_END
from .config import read_config as read_config
from .consistency import check_claims as check_claims
from .folder import ModelFolder as ModelFolder
from .folder import files_of as files_of
from .folder import require_provenance as require_provenance
from .info import ModelInfo as ModelInfo
from .loading import check_adaptable as check_adaptable
from .loading import load_adapted as load_adapted
from .loading import load_folder as load_folder
from .loading import load_with_new_head as load_with_new_head
from .provenance import Lineage as Lineage
from .provenance import Provenance as Provenance
from .provenance import TrainingCost as TrainingCost
from .provenance import model_name as model_name
from .provenance import short_name as short_name
from .saving import add_evaluation as add_evaluation
from .saving import add_pictures as add_pictures
from .saving import check_saving as check_saving
from .saving import describe as describe
from .saving import gives_same_logits as gives_same_logits
from .saving import is_as_described as is_as_described
from .saving import save as save
from .validation import check_weights as check_weights
