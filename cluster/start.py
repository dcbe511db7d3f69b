"""The command line's first import: from here on, nothing is imported from the current folder.

Names of files are read as UTF-8 whatever the locale, or one folder would have other pictures under
other locales. Libraries that are imported later start no more threads than there are cores.
"""

import os
import sys

from lamella.pipeline.cores import limit_libraries
from lamella.pipeline.import_path import leave_current_folder

if sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
    # Python settles this as it starts. What is printed keeps the encoding of the locale.
    encoding = {"PYTHONIOENCODING": sys.stdout.encoding} if sys.stdout else {}
    environment = encoding | dict(os.environ) | {"PYTHONUTF8": "1"}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)

leave_current_folder()
limit_libraries()
