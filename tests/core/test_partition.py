"""Keys fall into the partitions that Kafka's Java client gives them."""

import pytest

from choreo.core.partition import murmur2, partition_of

# The vectors of org.apache.kafka.common.utils.UtilsTest.testMurmur2, as signed integers.
VECTORS = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("data", "signed"), VECTORS.items(), ids=[data.decode() for data in VECTORS])
def test_the_hash_is_kafkas_murmur2(data: bytes, signed: int) -> None:
    """The same bytes give the same 32 bits as in Java."""
    assert murmur2(data) == signed & 0xFFFFFFFF


@pytest.mark.parametrize(("key", "signed"), [(data.decode(), signed) for data, signed in VECTORS.items()])
def test_a_partition_is_the_positive_hash_modulo_the_count(key: str, signed: int) -> None:
    """The sign bit is dropped, not the sign: Java's toPositive."""
    assert partition_of(key, 12) == (signed & 0x7FFFFFFF) % 12


def test_a_key_is_hashed_as_utf_8() -> None:
    """A key with an umlaut falls where its bytes do."""
    assert partition_of("Köln", 1_000_000) == (murmur2("Köln".encode()) & 0x7FFFFFFF) % 1_000_000


def test_keys_spread_over_all_partitions() -> None:
    """A thousand order numbers reach each of twelve partitions."""
    assert {partition_of(f"o-{number}", 12) for number in range(1_000)} == set(range(12))
