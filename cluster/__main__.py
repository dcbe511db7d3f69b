"""The `lamella` command: runs it, and turns every expected error into one line and an exit code."""

import sys

from cluster.cli import app
from cluster.maintaining import register
from pipeline.errors import InputError, LamellaError
from pipeline.evaluate.page import printable

WRONG_CALL, FAILED_JOB, STOPPED = 2, 1, 130


def main() -> None:
    """Run the command line. Exit code 0: done, 1: a job failed, 2: a wrong call."""
    register(app)
    try:
        app(prog_name="lamella")
    except KeyboardInterrupt:
        print("stopped; what is done stays done: the same command continues", file=sys.stderr)
        sys.exit(STOPPED)
    except (LamellaError, OSError) as error:
        if "--debug" in sys.argv:
            raise
        print(f"lamella: {printable(' '.join(str(error).split()))}", file=sys.stderr)
        sys.exit(WRONG_CALL if isinstance(error, InputError) else FAILED_JOB)


if __name__ == "__main__":
    main()
