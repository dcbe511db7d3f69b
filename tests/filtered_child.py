"""The hostile child as a plain user on a kernel that has seccomp alone."""

from lamella.pipeline.corpus import child
from tests import hostile_child
from tests.limited_child import become_plain

if __name__ == "__main__":
    become_plain()
    vars(child).update(forbid_files=list)
    hostile_child.main()
