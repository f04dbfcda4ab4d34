"""`python -m gpuaug` is the command `gpuaug`."""

from gpuaug.cli.main import main

if __name__ == "__main__":
    main()
