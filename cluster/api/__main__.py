"""`python -m lamella`, the same as the `lamella` command."""

from lamella.cluster.early import listen

listen()

from lamella.cluster.commands.main import main  # noqa: E402 - a signal may come meanwhile

if __name__ == "__main__":
    main()
