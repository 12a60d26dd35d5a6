"""The generator of common/base/rng.h in numpy: Philox4x32-10 (Salmon et al., SC 2011).

    python3 tests/reference/philox.py      checks it against the known answers of Random123

The key is the seed, the counter is (index, stream). Element i of a stream is word i % 4 of block i / 4.
"""
import numpy as np

KNOWN_ANSWERS = [  # Random123, kat_vectors, philox4x32 10: seed, stream, index, the four words
    (0, 0, 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    (2**64 - 1, 2**64 - 1, 2**64 - 1, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (0x299F31D0A4093822, 0x0370734413198A2E, 0x85A308D3243F6A88, (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
]


def stream(name):
    """The stream of a purpose: FNV-1a, 64 bits, of its name."""
    value = 0xCBF29CE484222325
    for byte in name.encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def blocks(seed, stream_id, index):
    """index: uint64 array (n) -> words, uint32 array (n, 4)."""
    low = np.uint64(0xFFFFFFFF)
    shift = np.uint64(32)
    index = np.asarray(index, np.uint64)
    counter = [index & low, index >> shift] + [np.full_like(index, w) for w in (stream_id & 0xFFFFFFFF, stream_id >> 32)]
    key = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        left = counter[0] * np.uint64(0xD2511F53)
        right = counter[2] * np.uint64(0xCD9E8D57)
        counter = [
            (right >> shift) ^ counter[1] ^ np.uint64(key[0]),
            right & low,
            (left >> shift) ^ counter[3] ^ np.uint64(key[1]),
            left & low,
        ]
        key = [(key[0] + 0x9E3779B9) % 2**32, (key[1] + 0xBB67AE85) % 2**32]
    return np.stack(counter, axis=-1).astype(np.uint32)


def words(seed, stream_id, first, count):
    """Elements first .. first + count - 1 of the stream, uint32."""
    begin = first // 4
    end = -(-(first + count) // 4)
    flat = blocks(seed, stream_id, np.arange(begin, end, dtype=np.uint64)).reshape(-1)
    return flat[first - 4 * begin :][:count]


def uniform(seed, stream_id, first, count, low=0.0, high=1.0):
    return low + (high - low) * (words(seed, stream_id, first, count) * 2.0**-32)


def normal(seed, stream_id, count, deviation):
    """Box-Muller on words (0, 1) and (2, 3) of each block: radius * cosine, radius * sine."""
    u = words(seed, stream_id, 0, -(-count // 4) * 4).reshape(-1, 2) * 2.0**-32
    radius = deviation * np.sqrt(-2.0 * np.log(1.0 - u[:, 0]))
    angle = 2.0 * np.pi * u[:, 1]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1).reshape(-1)[:count]


def check():
    for seed, stream_id, index, expected in KNOWN_ANSWERS:
        got = tuple(int(w) for w in blocks(seed, stream_id, [index])[0])
        assert got == expected, f"philox({seed}, {stream_id}, {index}) is {got}, must be {expected}"


if __name__ == "__main__":
    check()
    print("philox4x32-10: the known answers of Random123 hold")
