"""What the engine does on a real GPU: python -m benchmarks.gpu --out DIR --budget 480"""
