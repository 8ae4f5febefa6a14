"""AVIF's boxes, taken apart and put together again with lies in them."""

from __future__ import annotations

import struct


def box(kind: bytes, *parts: bytes) -> bytes:
    """Return a box."""
    body = b"".join(parts)
    return struct.pack(">L", 8 + len(body)) + kind + body


def full_box(kind: bytes, version: int, *parts: bytes) -> bytes:
    """Return a box with a version and no flags."""
    return box(kind, struct.pack(">L", version << 24), *parts)


def with_brand(brand: bytes) -> bytes:
    """Return a first box of another brand, still compatible with AVIF."""
    return box(b"ftyp", brand, bytes(4), b"mif1", b"avif", b"miaf", b"MA1B")


def nested(depth: int) -> bytes:
    """Return boxes in boxes."""
    sizes = [8 * (depth - level) for level in range(depth)]
    return b"".join(struct.pack(">L", size) + b"meta" for size in sizes)


def many_items(count: int) -> bytes:
    """Return an AVIF that lists so many items and has the data of none."""
    entries = [
        full_box(b"infe", 2, struct.pack(">HH", number & 0xFFFF, 0), b"av01\0") for number in range(1, count + 1)
    ]
    handler = full_box(b"hdlr", 0, bytes(4), b"pict", bytes(13))
    items = full_box(b"iinf", 1, struct.pack(">L", count), *entries)
    return with_brand(b"avif") + full_box(b"meta", 0, handler, full_box(b"pitm", 0, b"\0\1"), items)


def _places(file: bytes) -> tuple[int, int, int, int]:
    """Return where Pillow's AVIF has its meta box and the iloc box in it, and their sizes."""
    meta, iloc = file.index(b"meta") - 4, file.index(b"iloc") - 4
    return meta, iloc, int.from_bytes(file[meta : meta + 4], "big"), int.from_bytes(file[iloc : iloc + 4], "big")


def item_extent(file: bytes) -> tuple[int, int]:
    """Return the offset and the length of the first item's data."""
    _, iloc, _, _ = _places(file)
    version, sizes = file[iloc + 8], file[iloc + 12 : iloc + 14]
    assert (version, sizes) == (0, b"\x44\x00"), "Pillow writes its AVIFs in another way now"
    offset, length = struct.unpack_from(">LL", file, iloc + 16 + 6)
    return offset, length


def with_extents(file: bytes, extents: list[tuple[int, int]]) -> bytes:
    """
    Return an AVIF of one item whose data is put together from pieces of the file.

    Args:
        extents: Offset in the original file, and length.
    """
    meta, iloc, meta_bytes, iloc_bytes = _places(file)
    end = iloc + iloc_bytes
    grown = 16 + 6 + 8 * len(extents) - iloc_bytes
    moved = b"".join(struct.pack(">LL", offset + grown, length) for offset, length in extents)
    count = min(len(extents), 65_535)
    table = full_box(b"iloc", 0, b"\x44\x00\0\1", struct.pack(">HHH", 1, 0, count), moved)
    head = file[:meta] + struct.pack(">L", meta_bytes + len(table) - iloc_bytes) + file[meta + 4 : iloc]
    return head + table + file[end:]


def with_hidden_frames(file: bytes, count: int) -> bytes:
    """Return an AVIF whose one item holds its frame many times over."""
    return with_extents(file, [item_extent(file)] * count)


def with_grid(file: bytes, rows: int, columns: int, width: int, height: int, *, cell: int = 1) -> bytes:
    """Return an AVIF whose picture is a grid, every cell of which is the one item that the file has."""
    offset, length = item_extent(file)
    ispe = file.index(b"ispe") - 4
    config = file.index(b"av1C") - 4
    properties = [
        file[ispe : ispe + 20],
        file[config : config + int.from_bytes(file[config : config + 4], "big")],
        full_box(b"pixi", 0, b"\3\x08\x08\x08"),
        full_box(b"ispe", 0, struct.pack(">LL", width, height)),
    ]
    linked = struct.pack(">L", 2) + struct.pack(">HB3B", 1, 3, 1, 0x82, 3) + struct.pack(">HB2B", 2, 2, 4, 3)
    grid = struct.pack(">BBBBLL", 0, 1, rows - 1, columns - 1, width, height)
    count = rows * columns

    def meta(data_at: int) -> bytes:
        places = struct.pack(">HHHLL", 1, 0, 1, data_at + len(grid), length) + struct.pack(
            ">HHHLL", 2, 0, 1, data_at, len(grid)
        )
        return full_box(
            b"meta", 0,
            full_box(b"hdlr", 0, bytes(4), b"pict", bytes(13)),
            full_box(b"pitm", 0, b"\0\2"),
            full_box(b"iloc", 0, b"\x44\x00\0\2", places),
            full_box(
                b"iinf", 0, b"\0\2",
                full_box(b"infe", 2, b"\0\1\0\0av01\0"), full_box(b"infe", 2, b"\0\2\0\0grid\0"),
            ),
            full_box(b"iref", 0, box(b"dimg", struct.pack(">HH", 2, count), struct.pack(">H", cell) * count)),
            box(b"iprp", box(b"ipco", *properties), full_box(b"ipma", 0, linked)),
        )  # fmt: skip

    start = with_brand(b"avif")
    place = len(start) + len(meta(0)) + 8
    return start + meta(place) + box(b"mdat", grid, file[offset : offset + length])
