"""Bilevel fax coding: ITU-T T.4 (one and two dimensions) and T.6, and the variant of TIFF 6.0.

A line is a list of the columns where its colour changes, beginning with white.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

WHITE = """\
00110101 000111 0111 1000 1011 1100 1110 1111 10011 10100 00111 01000 001000 000011 110100 110101
101010 101011 0100111 0001100 0001000 0010111 0000011 0000100 0101000 0101011 0010011 0100100
0011000 00000010 00000011 00011010 00011011 00010010 00010011 00010100 00010101 00010110 00010111
00101000 00101001 00101010 00101011 00101100 00101101 00000100 00000101 00001010 00001011 01010010
01010011 01010100 01010101 00100100 00100101 01011000 01011001 01011010 01011011 01001010 01001011
00110010 00110011 00110100"""
WHITE_64 = """\
11011 10010 010111 0110111 00110110 00110111 01100100 01100101 01101000 01100111 011001100
011001101 011010010 011010011 011010100 011010101 011010110 011010111 011011000 011011001
011011010 011011011 010011000 010011001 010011010 011000 010011011"""
BLACK = """\
0000110111 010 11 10 011 0011 0010 00011 000101 000100 0000100 0000101 0000111 00000100 00000111
000011000 0000010111 0000011000 0000001000 00001100111 00001101000 00001101100 00000110111
00000101000 00000010111 00000011000 000011001010 000011001011 000011001100 000011001101
000001101000 000001101001 000001101010 000001101011 000011010010 000011010011 000011010100
000011010101 000011010110 000011010111 000001101100 000001101101 000011011010 000011011011
000001010100 000001010101 000001010110 000001010111 000001100100 000001100101 000001010010
000001010011 000000100100 000000110111 000000111000 000000100111 000000101000 000001011000
000001011001 000000101011 000000101100 000001011010 000001100110 000001100111"""
BLACK_64 = """\
0000001111 000011001000 000011001001 000001011011 000000110011 000000110100 000000110101
0000001101100 0000001101101 0000001001010 0000001001011 0000001001100 0000001001101 0000001110010
0000001110011 0000001110100 0000001110101 0000001110110 0000001110111 0000001010010 0000001010011
0000001010100 0000001010101 0000001011010 0000001011011 0000001100100 0000001100101"""
BOTH_64 = """\
00000001000 00000001100 00000001101 000000010010 000000010011 000000010100 000000010101
000000010110 000000010111 000000011100 000000011101 000000011110 000000011111"""
PASS, HORIZONTAL = 8, 9
MODES = {"0001": PASS, "001": HORIZONTAL, "1": 0, "011": 1, "000011": 2, "0000011": 3}
MODES |= {"010": -1, "000010": -2, "0000010": -3}
LONGEST = 13  # bits of a code
Table = list[tuple[int, int] | None]  # by the next LONGEST bits: value and length of the code


def _table(codes: dict[str, int]) -> Table:
    table: Table = [None] * (1 << LONGEST)
    for code, value in codes.items():
        free = LONGEST - len(code)
        first = int(code, 2) << free
        table[first : first + (1 << free)] = [(value, len(code))] * (1 << free)
    return table


def _runs(short: str, long: str) -> Table:
    codes = {code: i for i, code in enumerate(short.split())}
    codes |= {code: 64 * (i + 1) for i, code in enumerate((long + " " + BOTH_64).split())}
    return _table(codes)


RUNS = (_runs(WHITE, WHITE_64), _runs(BLACK, BLACK_64))
MODE = _table(MODES)


class _Bits:
    """A position in a string of bits; beyond its end are zeros."""

    def __init__(self, data: bytes) -> None:
        self.data = data + b"\0\0\0\0"
        self.at, self.end = 0, 8 * len(data)

    def peek(self, count: int = LONGEST) -> int:
        byte = self.at >> 3
        word = int.from_bytes(self.data[byte : byte + 4], "big")
        return word >> (32 - count - (self.at & 7)) & ((1 << count) - 1)

    def read(self, table: Table) -> int:
        found = table[self.peek()]
        if found is None or self.at + found[1] > self.end:
            raise ValueError(f"no fax code at bit {self.at}")
        self.at += found[1]
        return found[0]

    def run(self, colour: int) -> int:
        total = 0
        while True:
            length = self.read(RUNS[colour])
            total += length
            if length < 64:
                return total

    def skip_end_of_line(self) -> bool:
        """Go past zeros and the 1 that make an end of line, if that is what comes next."""
        start = self.at
        while self.at < self.end and not self.peek(1):
            self.at += 1
        if self.at - start >= 11 and self.at < self.end:
            self.at += 1
            return True
        self.at = start
        return False


def lines(raw: bytes, width: int, rows: int, compression: int, options: int) -> Iterator[bytes]:
    """Decode one strip to packed rows, a set bit for black.

    Args:
        raw: The strip, first bit highest.
        width: Columns.
        rows: Rows.
        compression: That of TIFF: 2 one-dimensional in whole bytes, 3 for T.4, 4 for T.6.
        options: T4Options of TIFF; bit 0: lines of two dimensions.

    Raises:
        ValueError: Damaged or cut short.
    """
    bits, line = _Bits(raw), list[int]()
    for _ in range(rows):
        two = compression == 4
        if compression == 3:
            bits.skip_end_of_line()
            if options & 1:
                two = not bits.peek(1)
                bits.at += 1
        line = _two_dimensions(bits, line, width) if two else _one_dimension(bits, width)
        if compression == 2:
            bits.at = bits.at + 7 & ~7
        flips = np.zeros(width + 1, np.uint8)
        np.bitwise_xor.at(flips, line, 1)
        yield np.packbits(np.bitwise_xor.accumulate(flips[:width])).tobytes()


def _one_dimension(bits: _Bits, width: int) -> list[int]:
    line, at, colour = list[int](), 0, 0
    while at < width:
        at += bits.run(colour)
        if at > width:
            raise ValueError("a fax line is too long")
        line.append(at)
        colour ^= 1
    return line


def _two_dimensions(bits: _Bits, above: list[int], width: int) -> list[int]:
    """A line by its differences from the one above (T.6, section 2.2)."""
    reference = [*above, width, width, width]
    line, at, colour, i = list[int](), -1, 0, 0
    while at < width:
        i = max(0, i - 1)
        i -= (i ^ colour) & 1  # the nearest change to the other colour, right of ``at``
        i = max(i, colour)
        while reference[i] <= at and reference[i] < width:
            i += 2
        change = reference[i]
        mode = bits.read(MODE)
        if mode == PASS:
            at = reference[i + 1]
            continue
        if mode == HORIZONTAL:
            first = max(at, 0) + bits.run(colour)
            at = first + bits.run(colour ^ 1)
            line += [first, at]
        else:
            first = at
            at = change + mode
            line.append(at)
            colour ^= 1
            if at < max(first, 0):
                raise ValueError("a fax line goes backwards")
        if at > width:
            raise ValueError("a fax line is too long")
        if at == width and mode == HORIZONTAL:
            break
    return line
