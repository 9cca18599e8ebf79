"""Pictures made for printing."""

import struct
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

from trainyard.trainer.diffusion.data.images import upright


def of_print(profile: bytes | None = None) -> list[int]:
    """The first pixel of a JPEG in full magenta and yellow."""
    out = BytesIO()
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(out, "JPEG", quality=100, icc_profile=profile)
    return np.asarray(upright(out.getvalue()))[0, 0].tolist()


def grey_print() -> bytes:
    """The profile of a printer whose inks make nothing but greys (ICC.1:2001-04): CMYK to Lab, two points an ink."""
    lightness = [round(255 * (4 - n.bit_count()) / 4) for n in range(16)]
    table = struct.pack(">4sI4B", b"mft1", 0, 4, 3, 2, 0)
    table += b"".join(struct.pack(">i", 65536 if n % 4 == 0 else 0) for n in range(9))
    table += bytes(range(256)) * 4 + b"".join(bytes((light, 128, 128)) for light in lightness) + bytes(range(256)) * 3
    named = struct.pack(">4sII", b"desc", 0, 5) + b"grey\0" + bytes(78)
    white = struct.pack(">4sI3i", b"XYZ ", 0, 63190, 65536, 54061)
    content, places = b"", []
    for name, tag in ((b"desc", named), (b"cprt", b"text\0\0\0\0none\0"), (b"wtpt", white), (b"A2B0", table)):
        places.append((name, len(content), len(tag)))
        content += tag + bytes(-len(tag) % 4)
    first = 128 + 4 + 12 * len(places)
    index = struct.pack(">I", len(places)) + b"".join(
        struct.pack(">4sII", n, first + at, size) for n, at, size in places
    )
    header = struct.pack(">I4sI4s4s4s", first + len(content), bytes(4), 0x02100000, b"prtr", b"CMYK", b"Lab ")
    header += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + index + content


def test_cmyk_becomes_rgb():
    red, green, blue = of_print()
    assert red > 240 and green < 15 and blue < 15


def test_the_files_own_profile_says_what_its_inks_look_like():
    red, green, blue = of_print(grey_print())
    assert max(red, green, blue) - min(red, green, blue) <= 3
    assert 100 < red < 140


def test_a_profile_that_can_not_be_used_is_left_alone():
    assert of_print(b"no profile") == of_print()
    assert of_print(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()) == of_print()
