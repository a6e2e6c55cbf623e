#!/usr/bin/env python3
"""Makes a small nettrace stream of a large one, for tests that must run without a .NET SDK.

usage: shrink.py IN OUT EVENTS [EVERY]

Keeps the first EVENTS events of each block of a stream that a runtime sent, or with EVERY one of EVERY blocks; what
is left is as it came, so sequence points tell of more events than there are.
"""
import struct, sys


def varuint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7f) << shift
        shift += 7
        if not byte & 0x80:
            return value, at


def blob_end(data, at, size):
    """Where the compressed blob at `at` ends, and the payload size that holds for the next."""
    flags = data[at]
    at += 1
    for bit, num in (1, 1), (2, 3), (4, 1), (8, 1):
        for _ in range(num if flags & bit else 0):
            _, at = varuint(data, at)
    _, at = varuint(data, at)
    at += 16 * bool(flags & 16) + 16 * bool(flags & 32)
    if flags & 128:
        size, at = varuint(data, at)
    return at + size, size


def main(source, dest, events, every=1):
    data = open(source, 'rb').read()
    out = bytearray(data[:32])
    at, seen = 32, 0
    while data[at] == 5:
        begin = at
        length, = struct.unpack_from('<I', data, at + 11)
        name = data[at + 15:at + 15 + length]
        at += 15 + length + 1
        if name == b'Trace':
            at += 49
            out += data[begin:at]
            continue
        size, = struct.unpack_from('<I', data, at)
        head = data[begin:at]
        at += 4
        at += -at % 4
        block = data[at:at + size]
        at += size + 1
        if name == b'EventBlock':
            seen += 1
            if (seen - 1) % every:
                continue
            end, payload = struct.unpack_from('<H', block)[0], 0
            for _ in range(events):
                if end < len(block):
                    end, payload = blob_end(block, end, payload)
            block = block[:end]
        out += head + struct.pack('<I', len(block))
        out += bytes(-len(out) % 4) + block + b'\x06'
    open(dest, 'wb').write(out + b'\x01')


main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]) if len(sys.argv) > 4 else 1)
