"""Models by name: found, fetched, loaded, listed, verified and published."""

from .catalogue import left_out as left_out
from .catalogue import list_models as list_models
from .checkpoint import open_checkpoint as open_checkpoint
from .collecting import TITLE as TITLE
from .collecting import Collected as Collected
from .collecting import collect as collect
from .destination import Destination as Destination
from .evaluated_on import open_data_of as open_data_of
from .fetching import MODEL_CARDS as MODEL_CARDS
from .fetching import ORGANISATION as ORGANISATION
from .fetching import download as download
from .fetching import open_folder as open_folder
from .fetching import resolve as resolve
from .loading import load as load
from .loading import load_with_folder as load_with_folder
from .offering import offer_evaluation as offer_evaluation
from .prediction import Prediction as Prediction
from .prediction import predict as predict
from .prediction import write_csv as write_csv
from .publishing import check_folder as check_folder
from .publishing import publish as publish
from .students import open_student as open_student
from .verification import verify as verify
