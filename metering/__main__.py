"""`python -m metering` is the `metering` command."""

from metering.cli import main

if __name__ == "__main__":
    main()
