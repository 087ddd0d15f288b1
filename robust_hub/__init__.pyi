"""Robust image classifiers for timm, and recipes that pass robustness on, by natural images or one perturbed each."""

from . import attacks as attacks
from . import conversion as conversion
from . import data as data
from . import demo as demo
from . import evaluation as evaluation
from . import export as export
from . import hub as hub
from . import launch as launch
from . import leaderboard as leaderboard
from . import methods as methods
from . import model_folder as model_folder
from . import models as models
from . import training as training
from .evaluation.in_memory import evaluate as evaluate
from .hub.catalogue import list_models as list_models
from .hub.loading import load as load
from .hub.prediction import predict as predict
from .models.pixel_classifier import PixelClassifier as PixelClassifier
from .models.teacher import Teacher as Teacher
from .threats import L2 as L2
from .threats import Linf as Linf
