"""The process that decodes HEIC as a plain user."""

import pi_heif  # noqa: F401

from lamella.pipeline.corpus import child
from tests.limited_child import become_plain

if __name__ == "__main__":
    become_plain()
    child.main(threads=True)
