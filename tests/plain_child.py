"""The hostile child as a plain user, held by Landlock and seccomp."""

from tests import hostile_child
from tests.limited_child import become_plain

if __name__ == "__main__":
    become_plain()
    hostile_child.main()
