"""`python -m tidewheel` is `tidewheel`."""

from tidewheel.cli.main import run

if __name__ == "__main__":
    run()
