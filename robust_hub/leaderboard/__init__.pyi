"""Models beside each other, as a table and as one page that needs no server."""

from .page import PAGE as PAGE
from .page import write_page as write_page
from .space import write_space as write_space
from .table import model_table as model_table
