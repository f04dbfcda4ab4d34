"""One package for each backend. Each has `render(program, source)`; the torch one is the definition of the pixels."""
