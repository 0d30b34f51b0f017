"""Transformers without scikit-learn and SciPy: to be imported before any of its models.

It would import them, pandas with them, a second of processor time in each process of a run, for assisted generation and
for losses of object detection.
"""

from transformers import utils

utils.is_sklearn_available = utils.is_scipy_available = lambda: False
