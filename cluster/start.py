"""The command line's first import: from here on, nothing is imported from the current folder.

Libraries that are imported later start no more threads than there are cores.
"""

from lamella.pipeline.cores import limit_libraries
from lamella.pipeline.import_path import leave_current_folder

leave_current_folder()
limit_libraries()
