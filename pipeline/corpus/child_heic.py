"""The process that decodes HEIC, and nothing else; as `child.py` in all but its threads.

libde265 decodes in a thread of its own and cannot do without, so this process may start threads,
though no process. Other pictures do not share it.
"""

import contextlib

from lamella.pipeline.corpus import child

with contextlib.suppress(ImportError):  # then each picture is refused, with what to do
    import pi_heif  # noqa: F401

if __name__ == "__main__":
    child.main(threads=True)
