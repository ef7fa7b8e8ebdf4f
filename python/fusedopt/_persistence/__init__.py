"""What lasts of an optimizer: state as plain data, copies, and files.

An optimizer is known here only by what `persisted.Persisted` says; the classes stand above.
"""
