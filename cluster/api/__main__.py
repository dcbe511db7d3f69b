"""`python -m lamella`, the same as the `lamella` command."""

from lamella.cluster.commands.main import main

if __name__ == "__main__":
    main()
