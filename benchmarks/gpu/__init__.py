"""What is to be seen on a GPU, in the same code that runs without one: the checks of `benchmarks/rehearsal.py`."""
