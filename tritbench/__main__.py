"""`python -m tritbench`: the `tritbench` command."""

from tritbench.cli import main

if __name__ == "__main__":
    main()
