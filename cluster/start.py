"""The command line's first import: from here on, nothing is imported from the current folder."""

from lamella.pipeline.import_path import leave_current_folder

leave_current_folder()
