"""Benchmarks: what is measured, against whom, and how; see ``python -m fusedopt bench``.

Only this folder needs more than NumPy, and only when it is run.
"""
