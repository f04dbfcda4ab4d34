"""The command `gpuaug`: `main`, and one file for each command. None of them imports torch before it has to."""
