"""A page on which people see, on a picture of their own, what a model withstands."""

from .exhibits import Exhibit as Exhibit
from .exhibits import exhibit_of as exhibit_of
from .exhibits import plain_exhibit as plain_exhibit
from .page import open_page as open_page
from .page import show as show
from .pictures import Picture as Picture
from .pictures import pictures_in as pictures_in
from .pictures import pictures_of as pictures_of
from .space import write_space as write_space
