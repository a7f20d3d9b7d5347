#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A second decoder of codec delta2, written from weightfs-format(5) alone.

usage: delta2.py CASE...	each a file as tests/delta-case.h describes it

Decodes every case and compares; says which one differs.  The page is wrong, or incomplete, where
this and the C decoder disagree.
"""
import struct
import subprocess
import sys

WIDTH = [1] * 12 + [2] * 4 + [4, 4, 4] + [8, 8, 8] + [4]
KIND_OF = {9: 1, 4: 2, 7: 2, 5: 3, 8: 3, 12: 4, 13: 4, 14: 5, 15: 6, 16: 7, 17: 7, 18: 8, 22: 8, 19: 9, 20: 9, 21: 10}
INTEGERS = (0, 4, 7, 9)
BITS = [8, 4, 8, 8, 16, 16, 16, 32, 32, 64, 64]
EXPONENT = [(4, 255), (0, 15), (3, 15), (2, 31), (0, 0), (10, 31), (7, 255), (0, 0), (23, 255), (0, 0), (52, 2047)]
POWERS = [round(2 ** (24 - i / 32)) for i in range(33)]
FAR = 7 * 65536


def survival(t):
    i = (t >> 11) % 32
    return (POWERS[i] - ((POWERS[i] - POWERS[i + 1]) * (t % 2048) >> 11)) >> (t >> 16)


class Bit:
    def __init__(self, p=32768, n=0):
        self.p, self.n = p, n


class Coder:
    def __init__(self, data):
        state = len(data) if len(data) <= 8 else 5 + (len(data) - 5) % 4
        self.x = int.from_bytes(data[:state], "little")
        self.words, self.at = data[state:], 0

    def refill(self):
        if self.x < 1 << 32 and self.at < len(self.words):
            self.x = self.x << 32 | struct.unpack_from("<I", self.words, self.at)[0]
            self.at += 4

    def take(self, start, freq, bits):
        low = self.x % (1 << bits)
        assert start <= low < start + freq
        self.x = freq * (self.x >> bits) + low - start
        self.refill()

    def plain(self, n):
        v = self.x % (1 << n)
        self.x >>= n
        self.refill()
        return v

    def bit(self, b):
        one = self.x % 65536 < b.p
        q = 2 * b.n + 3
        if one:
            self.take(0, b.p, 16)
            b.p += 2 * (65536 - b.p) // q
        else:
            self.take(b.p, 65536 - b.p, 16)
            b.p -= 2 * b.p // q
        b.p = min(max(b.p, 32), 65504)
        b.n = min(b.n + 1, 255)
        return one


class Section:
    """Units of one kind and which class each is of."""

    def __init__(self, kind, units, data):
        self.bits, self.units = BITS[kind], units
        self.shift, self.mask = EXPONENT[kind]
        v = struct.unpack_from("<H", data)[0]
        self.first, self.classes = v & 0xfff, (v >> 12) + 1
        self.data = data

    def class_of(self, old):
        return min(max((old >> self.shift & self.mask) - self.first, 0), self.classes - 1)

    def weights(self):
        nibbles = [n for b in self.data[3:] for n in (b & 15, b >> 4)]
        at = code = 0
        weights = []
        for _ in range(self.classes):
            v = nibbles[at]
            at += 1
            if v < 15:
                code += 3 - v
            else:
                code = nibbles[at] | nibbles[at + 1] << 4
                at += 2
            assert 0 <= code < 120
            weights.append((8 + code % 8 << code // 8) >> 3 if code else 0)
        return weights, 3 + (at + 1) // 2

    def sparse(self):
        weights, at = self.weights()
        coder = Coder(self.data[at:])
        rate = 1 << self.data[2]
        one = [Bit(128, 8) if rate * w >> 16 < 65536 else Bit() for w in weights]
        longer, second = [Bit() for _ in range(32)], [Bit() for _ in range(32)]
        units = self.units
        heavy = [weights[self.class_of(u)] for u in units]
        left, at = sum(heavy), 0
        while left > 0:
            # From the nearest unit on, until the symbol's interval is found.
            v = coder.x % (1 << 24)
            k = w = 0
            changes = False
            while at + k < len(units):
                before, after = rate * w >> 16, rate * (w + heavy[at + k]) >> 16
                if w == 0:
                    after = min(after, FAR)
                if after > FAR:
                    break
                if survival(after) <= v:
                    changes = True
                    break
                k += 1
                w += heavy[at + k - 1]
            passed = min(rate * w >> 16, FAR)
            if changes:
                coder.take(survival(after), survival(before) - survival(after), 24)
                t, e = (before + after) // 2, 94548
            else:
                coder.take(0, survival(passed), 24)
                t, e = passed, 0
            rate = rate + (rate * (e - t) >> 23) if t < e else rate - (rate * (t - e) >> 23)
            rate = min(max(rate, 1 << 16), 1 << 26)
            left -= w
            at += k
            if changes:
                left -= heavy[at]
                units[at] = self.changed(coder, units[at], one, longer, second)
                at += 1
        assert coder.x == 1 and coder.at == len(coder.words)

    def changed(self, coder, old, one, longer, second):
        c = self.class_of(old)
        length, m = 0, 1
        while length < self.bits - 1 and coder.bit(longer[min(c + length, 31)] if length else one[c]):
            length += 1
        if length:
            m = 2 | coder.bit(second[min(c + length, 31)])
        left = max(length - 1, 0)
        while left > 16:
            m = m << 16 | coder.plain(16)
            left -= 16
        m = m << left | coder.plain(left)
        return (old - m if coder.plain(1) else old + m) % (1 << self.bits)

    def dense(self):
        freqs_len, n_words = struct.unpack_from("<HI", self.data, 2)
        at, end = 8, 8 + freqs_len
        tokens = []
        for _ in range(self.classes):
            n = struct.unpack_from("<H", self.data, at)[0]
            at += 2
            slots = []
            for t in range(n):
                f = self.data[at]
                at += 1
                if f >= 224:
                    f = (f - 224) * 256 + self.data[at]
                    at += 1
                slots += [(t, f, k) for k in range(f)]
            assert len(slots) in (0, 4096)
            tokens.append(slots)
        assert at == end
        states = list(struct.unpack_from("<32I", self.data, at))
        at += 128
        words = struct.unpack_from(f"<{n_words}H", self.data, at)
        low = int.from_bytes(self.data[at + 2 * n_words:], "little")
        low_left = 8 * (len(self.data) - at - 2 * n_words)
        word = 0
        for i, old in enumerate(self.units):
            x = states[i % 32]
            t, f, k = tokens[self.class_of(old)][x % 4096]
            x = f * (x >> 12) + k
            if x < 65536:
                x = x << 16 | words[word]
                word += 1
            states[i % 32] = x
            z = t
            if t >= 16:
                n = 2 + (t - 16) // 4
                z = (4 + (t - 16) % 4 << n) + low % (1 << n)
                low >>= n
                low_left -= n
            d = -(z + 1) // 2 if z & 1 else z // 2
            self.units[i] = (old + d) % (1 << self.bits)
        assert word == n_words and states == [65536] * 32 and 0 <= low_left < 8


def runs(spans):
    """(kind, offset, bytes) of whole elements, and of the bytes before and after."""
    for off, length, dtype, phase in spans:
        width = WIDTH[dtype]
        head = min(width - phase, length) if phase else 0
        body = (length - head) // width * width
        for kind, o, n in ((0, off, head), (KIND_OF.get(dtype, 0), off + head, body),
                           (0, off + head + body, length - head - body)):
            if n:
                yield (kind, o, n)


def decode(block, spans, stored):
    """The number of sections whose integers hold 4-bit units."""
    at = n_packed = 0
    present = sorted({kind for kind, _, _ in runs(spans)})
    for kind in present:
        form, at = stored[at], at + 1
        length = len(stored) - at
        if kind != present[-1]:
            length, at = struct.unpack_from("<I", stored, at)[0], at + 4
        data, at = stored[at:at + length], at + length
        mine = [(o, n) for k, o, n in runs(spans) if k == kind]
        old = b"".join(bytes(block[o:o + n]) for o, n in mine)
        new = old
        packed = kind == 1
        if form in (19, 20):
            assert kind in INTEGERS
            form -= 16
            packed = True
            n_packed += 1
        if form == 1:
            new = data
        elif form == 2:
            new = subprocess.run(["zstd", "-dqc"], input=data, stdout=subprocess.PIPE, check=True).stdout
        elif form in (3, 4):
            width = 1 if packed else BITS[kind] // 8
            units = [int.from_bytes(old[i:i + width], "little") for i in range(0, len(old), width)]
            if packed:
                units = [n for b in units for n in (b & 15, b >> 4)]
            section = Section(1 if packed else kind, units, data)
            section.sparse() if form == 3 else section.dense()
            if packed:
                units = [lo | hi << 4 for lo, hi in zip(units[::2], units[1::2])]
            new = b"".join(u.to_bytes(width, "little") for u in units)
        else:
            assert form == 0 and not data
        assert len(new) == len(old)
        for o, n in mine:
            block[o:o + n], new = new[:n], new[n:]
    assert at == len(stored)
    return n_packed


def main():
    n_packed = 0
    for path in sys.argv[1:]:
        with open(path, "rb") as f:
            raw = f.read()
        size, n_spans, stored_len = struct.unpack_from("<III", raw)
        spans = [struct.unpack_from("<IIBB", raw, 12 + 12 * i) for i in range(n_spans)]
        at = 12 + 12 * n_spans
        block = bytearray(raw[at:at + size])
        n_packed += decode(block, spans, raw[at + 2 * size:at + 2 * size + stored_len])
        if block != raw[at + size:at + 2 * size]:
            sys.exit(f"{path}: decoded to other bytes")
    print(f"{len(sys.argv) - 1} cases, {n_packed} packed sections")


if __name__ == "__main__":
    main()
