"""Turn `python -m brainsim` into the command line."""

from brainsim.cli.main import run

if __name__ == "__main__":
    run()
