"""How a recipe is started: its command line, its output folder, and what it runs on."""

from .cli import command_line as command_line
from .cli import tell as tell
from .environment import hardware as hardware
from .environment import make_accelerator as make_accelerator
from .environment import peak_memory as peak_memory
from .environment import told_command as told_command
from .environment import versions as versions
from .identity import check_apart as check_apart
from .identity import check_output as check_output
from .identity import claim_output as claim_output
from .identity import identity_of as identity_of
from .output import Output as Output
from .output import check_new_file as check_new_file
from .progress_bars import progress as progress
from .tracking import end_training as end_training
from .tracking import track as track
from .words import Json as Json
from .words import LabelNames as LabelNames
