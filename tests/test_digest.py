"""Contract: the bits are those of every other machine (tests/foreign has the machines)."""

from foreign import digest


def test_every_hash_is_the_one_of_every_machine() -> None:
    """Where results are to change: `python tests/foreign/digest.py --write`."""
    found = dict(digest.rows(check=False))
    expected = digest.expected()
    different = {name for name, value in found.items() if expected.get(name) != value}
    assert not different
    # A machine that can't flush subnormals has nothing to say about that.
    assert all("flushed" in name for name in expected.keys() - found.keys())
    assert len(found) > 400
