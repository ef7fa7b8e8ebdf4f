"""A fuzzer: an optimizer and its reference are put through the same things, in any order."""
