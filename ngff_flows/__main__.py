"""`python -m ngff_flows` runs the command `ngff-flows`."""

from ngff_flows.cli.main import main

if __name__ == "__main__":
    main()
