"""``python -m chelys`` is ``chelys``."""

from chelys.cli.main import main

if __name__ == "__main__":
    main()
