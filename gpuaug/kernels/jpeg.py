"""Constants of JPEG for all backends: the tables of ITU T.81, and libjpeg's weights between RGB and YCbCr."""

from __future__ import annotations

__all__ = [
    "CB_TO_BLUE", "CB_TO_GREEN", "CB_WEIGHTS", "CHROMA_TABLE", "CR_TO_GREEN", "CR_TO_RED", "CR_WEIGHTS", "LUMA_TABLE",
    "LUMA_WEIGHTS",
]  # fmt: skip

# ITU T.81 tables K.1 (luminance) and K.2 (chrominance), row by row: index 8 * vertical + horizontal frequency.
LUMA_TABLE: tuple[int, ...] = (
    *(16, 11, 10, 16, 24, 40, 51, 61),
    *(12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77),
    *(24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101),
    *(72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMA_TABLE: tuple[int, ...] = (
    *(17, 18, 24, 47, 99, 99, 99, 99),
    *(18, 21, 26, 66, 99, 99, 99, 99),
    *(24, 26, 56, 99, 99, 99, 99, 99),
    *(47, 66, 99, 99, 99, 99, 99, 99),
    *(99,) * 32,
)

# jccolor.c: weights of red, green and blue, scaled by 2**16
LUMA_WEIGHTS = (19595, 38470, 7471)
CB_WEIGHTS = (-11059, -21709, 32768)
CR_WEIGHTS = (32768, -27439, -5329)

# jdcolor.c: weights of Cb - 128 and Cr - 128, which are added to the luma, scaled by 2**16
CR_TO_RED, CB_TO_GREEN, CR_TO_GREEN, CB_TO_BLUE = 91881, -22554, -46802, 116130
