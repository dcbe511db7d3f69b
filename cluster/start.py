"""The first import of the command line: from here on, nothing in the current folder is code."""

from lamella.pipeline.import_path import leave_current_folder

leave_current_folder()
