"""Crop, resize, pad and flip one uint8 image in one call, with the integer arithmetic of ATen's uint8 resize."""

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

NEAREST, NEAREST_EXACT, BILINEAR, BICUBIC = range(4)
NEAREST_EXACT_SMALL = -1  # ATen's other rounding of NEAREST_EXACT, where output height + width <= 128
CONSTANT, EDGE, REFLECT, SYMMETRIC = range(4)

WHERE_X, WHERE_Y, FIRST, COUNT, COLUMN, SLOT, ROW = range(7)  # rows of the int32 scratch

Scratch = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]

_I8, _I16, _I32, _I64 = (ir.IntType(n) for n in (8, 16, 32, 64))
ROWS = 4  # rows one call of the horizontal kernel shares its columns and weights over


def _mask(lanes: list[int]) -> ir.Constant:
    return ir.Constant(ir.VectorType(_I32, len(lanes)), lanes)


def _splat(builder: ir.IRBuilder, value: ir.Value, n: int) -> ir.Value:
    vec = ir.VectorType(value.type, n)
    one = builder.insert_element(ir.Constant(vec, ir.Undefined), value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(one, ir.Constant(vec, ir.Undefined), _mask([0] * n))


def _concat(builder: ir.IRBuilder, parts: list[ir.Value]) -> ir.Value:
    while len(parts) > 1:
        n = 2 * parts[0].type.count
        parts = [builder.shuffle_vector(a, b, _mask(list(range(n)))) for a, b in zip(parts[::2], parts[1::2])]
    return parts[0]


def _at(builder: ir.IRBuilder, data: ir.Value, offset: ir.Value, vec: ir.Type) -> ir.Value:
    return builder.bitcast(builder.gep(data, [offset]), vec.as_pointer())


def _load(builder: ir.IRBuilder, data: ir.Value, offset: ir.Value, vec: ir.Type, align: int = 1) -> ir.Value:
    out = builder.load(_at(builder, data, offset, vec))
    out.align = align
    return out


def _widen(builder: ir.IRBuilder, pixels: ir.Value, lanes: list[int]) -> ir.Value:
    """Pick bytes of `pixels` (64) and zero extend them to int16."""
    zero = ir.Constant(pixels.type, None)
    mask = [m for lane in lanes for m in (lane, pixels.type.count)]
    return builder.bitcast(builder.shuffle_vector(pixels, zero, _mask(mask)), ir.VectorType(_I16, len(lanes)))


def _madd(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    """Sums of two neighbouring int16 products as int32: the pattern LLVM turns into one vpmaddwd."""
    n = a.type.count
    wide = ir.VectorType(_I32, n)
    product = builder.mul(builder.sext(a, wide), builder.sext(b, wide))
    undef = ir.Constant(wide, ir.Undefined)
    even, odd = (builder.shuffle_vector(product, undef, _mask(list(range(k, n, 2)))) for k in (0, 1))
    return builder.add(even, odd)


def _to_byte(builder: ir.IRBuilder, acc: ir.Value, shift: ir.Value) -> ir.Value:
    acc = builder.ashr(acc, shift)
    for op, bound in (("<", 0), (">", 255)):
        limit = ir.Constant(acc.type, [bound] * acc.type.count)
        acc = builder.select(builder.icmp_signed(op, acc, limit), limit, acc)
    return builder.trunc(acc, ir.VectorType(_I8, acc.type.count))


def _rounding(builder: ir.IRBuilder, precision: ir.Value) -> tuple[ir.Value, ir.Value]:
    one = ir.Constant(_I32, 1)
    return _splat(builder, builder.shl(one, builder.sub(precision, one)), 16), _splat(builder, precision, 16)


def _c64(n: int) -> ir.Constant:
    return ir.Constant(_I64, n)


def _data(context: Any, builder: ir.IRBuilder, sig: Any, args: Any, n: int) -> ir.Value:
    return context.make_array(sig.args[n])(context, builder, args[n]).data


def _horizontal(lines: int) -> Any:
    """16 output columns of ROWS rows: pixels of `lines` interleaved bytes in, `lines` planar lines a row out."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        src, index, table, mid = (_data(context, builder, sig, args, n) for n in (0, 2, 4, 8))
        rows = [builder.extract_value(args[1], r) for r in range(ROWS)]
        columns, block, chunks, precision, to, pitch = args[3], args[5], args[6], args[7], args[9], args[10]
        half, shift = _rounding(builder, precision)
        x = builder.mul(block, _c64(16))
        weights = builder.mul(builder.mul(block, chunks), _c64(256))
        lane = [[16 * i + lines * (2 * p + t) + (c if c < lines else 0)
                 for i in range(4) for c in range(4) for t in (0, 1)] for p in (0, 1)]

        def quad(chunk: ir.Value, q: int, acc: list[ir.Value]) -> list[ir.Value]:
            at = builder.add(weights, builder.add(builder.mul(chunk, _c64(256)), _c64(64 * q)))
            w = [_load(builder, table, builder.add(at, _c64(32 * p)), ir.VectorType(_I16, 32), 2) for p in (0, 1)]
            step = builder.mul(chunk, _c64(4 * lines))
            pixels: list[list[ir.Value]] = [[] for _ in rows]
            for i in range(4):
                column = builder.add(columns, builder.add(x, _c64(4 * q + i)))
                first = builder.mul(builder.sext(_load(builder, index, column, _I32, 4), _I64), _c64(lines))
                for r, base in enumerate(rows):
                    at = builder.add(builder.add(base, step), first)
                    pixels[r].append(_load(builder, src, at, ir.VectorType(_I8, 16)))
            for r in range(ROWS):
                v = _concat(builder, pixels[r])
                for p in (0, 1):
                    acc[r] = builder.add(acc[r], _madd(builder, _widen(builder, v, lane[p]), w[p]))
            return acc

        done: list[list[ir.Value]] = [[] for _ in rows]
        for q in range(4):
            first = quad(_c64(0), q, [half] * ROWS)
            acc = [cgutils.alloca_once_value(builder, a) for a in first]
            with cgutils.for_range(builder, builder.sub(chunks, _c64(1)), intp=_I64) as loop:
                more = quad(builder.add(loop.index, _c64(1)), q, [builder.load(a) for a in acc])
                for a, m in zip(acc, more):
                    builder.store(m, a)
            for r in range(ROWS):
                done[r].append(_to_byte(builder, builder.load(acc[r]), shift))
        for r in range(ROWS):
            v = _concat(builder, done[r])
            for c in range(lines):
                plane = builder.shuffle_vector(v, v, _mask([4 * i + c for i in range(16)]))
                at = builder.add(builder.add(to, builder.mul(pitch, _c64(r * lines + c))), x)
                builder.store(plane, _at(builder, mid, at, ir.VectorType(_I8, 16))).align = 1
        return context.get_dummy_value()

    @intrinsic
    def run(typingctx, src, rows, index, columns, table, block, chunks, precision, mid, to, pitch):  # type: ignore
        i64 = types.int64
        row = types.UniTuple(i64, ROWS)
        return types.void(src, row, index, i64, table, i64, i64, types.int32, mid, i64, i64), codegen

    return run


def _vertical_codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
    mid, table, out = (_data(context, builder, sig, args, n) for n in (0, 3, 7))
    _, base, step, _, at, pairs, precision, _, to = args
    half, shift = _rounding(builder, precision)
    bytes32 = ir.VectorType(_I8, 32)

    def pair(n: ir.Value, acc: list[ir.Value]) -> list[ir.Value]:
        twice = builder.mul(n, _c64(2))
        w = _splat(builder, _load(builder, table, builder.add(at, twice), _I32, 2), 16)
        w = builder.bitcast(w, ir.VectorType(_I16, 32))
        row = builder.add(base, builder.mul(step, twice))
        v = _concat(builder, [_load(builder, mid, row, bytes32), _load(builder, mid, builder.add(row, step), bytes32)])
        lane = [[32 * t + 16 * g + i for i in range(16) for t in (0, 1)] for g in (0, 1)]
        return [builder.add(acc[g], _madd(builder, _widen(builder, v, lane[g]), w)) for g in (0, 1)]

    acc = [cgutils.alloca_once_value(builder, a) for a in pair(_c64(0), [half, half])]
    with cgutils.for_range(builder, builder.sub(pairs, _c64(1)), intp=_I64) as loop:
        for a, m in zip(acc, pair(builder.add(loop.index, _c64(1)), [builder.load(a) for a in acc])):
            builder.store(m, a)
    v = _concat(builder, [_to_byte(builder, builder.load(a), shift) for a in acc])
    builder.store(v, _at(builder, out, to, bytes32)).align = 1
    return context.get_dummy_value()


@intrinsic
def _vertical(typingctx, mid, base, step, table, at, pairs, precision, out, to):  # type: ignore[no-untyped-def]
    """32 columns of one output line, from `pairs` pairs of lines of `mid`, `step` apart."""
    i64 = types.int64
    return types.void(mid, i64, i64, table, i64, i64, types.int32, out, i64), _vertical_codegen


def _interleave_codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
    src, mid = (_data(context, builder, sig, args, n) for n in (0, 5))
    v = _concat(builder, [_load(builder, src, a, ir.VectorType(_I8, 16)) for a in args[1:5]])
    v = builder.shuffle_vector(v, v, _mask([16 * c + i for i in range(16) for c in range(4)]))
    builder.store(v, _at(builder, mid, args[6], v.type)).align = 1
    return context.get_dummy_value()


@intrinsic
def _interleave(typingctx, src, a, b, c, d, mid, to):  # type: ignore[no-untyped-def]
    """mid[to:to + 64] = the 16 bytes at a, b, c and d of src, byte by byte in turn."""
    i64 = types.int64
    return types.void(src, i64, i64, i64, i64, mid, i64), _interleave_codegen


@intrinsic
def _prefetch(typingctx, src, at):  # type: ignore[no-untyped-def]
    """A hint, harmless outside src, that src[at] is read soon."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        pointer = builder.gep(_data(context, builder, sig, args, 0), [args[1]])
        i32 = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, i32, i32, i32])
        hint = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(hint, [pointer, i32(0), i32(3), i32(1)])
        return context.get_dummy_value()

    return types.void(src, types.int64), codegen


_horizontal3, _horizontal4 = _horizontal(3), _horizontal(4)


@njit(nogil=True)
def _tap(i, n_in, scale, filter_, antialias, support, size, real, at):  # type: ignore[no-untyped-def]
    """Float taps of output `i` into `real[at:at + size]`: first input, number of inputs, largest tap."""
    largest = 0.0
    if antialias:
        center = scale * (i + 0.5)
        inverse = 1.0 / scale if scale >= 1.0 else 1.0
        first = max(np.int64(center - support + 0.5), 0)
        count = min(max(min(np.int64(center + support + 0.5), n_in) - first, 0), size)
        total = 0.0
        for j in range(count):
            x = abs((j + first - center + 0.5) * inverse)
            w = max(1.0 - x, 0.0) if filter_ == BILINEAR else _cubic(x, -0.5)
            real[at + j] = w
            total += w
        if total != 0.0:
            for j in range(count):
                w = real[at + j] / total
                real[at + j] = w
                largest = max(largest, w)
        return first, count, largest
    source = scale * (i + 0.5) - 0.5
    if filter_ == BILINEAR:
        source = max(source, 0.0)
    index = min(np.int64(math.floor(source)), n_in - 1)
    part = min(max(source - index, 0.0), 1.0)
    unbound = index - size // 2 + 1
    first = max(unbound, 0)
    count = min(max(min(index + size // 2 + 1, n_in) - first, 0), size)
    slot = 0
    for j in range(size):
        real[at + j] = 0.0
        x = abs(np.float64(j + 1 - size // 2) - part)
        w = max(1.0 - x, 0.0) if filter_ == BILINEAR else _cubic(x, -0.75)
        if unbound + j <= 0:
            slot = 0
        elif unbound + j >= n_in - 1:
            slot = count - 1
        real[at + slot] += w
        largest = max(largest, real[at + slot])
        slot += 1
    return first, count, largest


@njit(nogil=True)
def _cubic(x, a):  # type: ignore[no-untyped-def]
    if x < 1.0:
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    if x < 2.0:
        return ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    return 0.0


@njit(nogil=True)
def taps(n_in, n_out, filter_, antialias):  # type: ignore[no-untyped-def]
    """Row length of the weight table of one axis."""
    if n_in == n_out or filter_ < BILINEAR:
        return 2
    size = 2 * (filter_ - 1)
    if not antialias:
        return size
    return int(math.ceil(0.5 * size * max(n_in / n_out, 1.0))) * 2 + 2


@njit(nogil=True)
def weights(n_in, n_out, filter_, antialias, lo, hi, first, count, table, real):  # type: ignore[no-untyped-def]
    """Integer weights of outputs lo..hi-1 of an axis of n_in pixels resampled to n_out; returns the precision.

    first, count int32[hi - lo]; table int16[(hi - lo) * taps(...)], zero padded; real float64, one row longer.
    The pixel is (sum(count weights * inputs from first) + (1 << precision >> 1)) >> precision, clamped.
    """
    row = taps(n_in, n_out, filter_, antialias)
    if n_in == n_out or filter_ < BILINEAR:
        scale32 = np.float32(n_in) / np.float32(n_out)
        for i in range(lo, hi):
            index = i
            if n_in != n_out and filter_ == NEAREST_EXACT:  # scale * (i + 0.5) - 0.5 is one fused operation there
                index = np.int64(math.floor(np.float32((i + 0.5) * scale32 - 0.5) + np.float32(0.5)))
            elif n_in != n_out and filter_ == NEAREST_EXACT_SMALL:
                index = np.int64(math.floor(np.float32((i + 0.5) * scale32)))
            elif n_in != n_out:
                index = np.int64(math.floor(np.float32(i) * scale32))
            first[i - lo] = min(index, n_in - 1)
            count[i - lo] = 1
            table[2 * (i - lo)] = 1 << 14
            table[2 * (i - lo) + 1] = 0
        return np.int32(14)
    scale = n_in / n_out
    size = 2 * (filter_ - 1)
    support = 0.5 * size
    if antialias:
        support = support * scale if scale >= 1.0 else support
        size = int(math.ceil(support)) * 2 + 1
    largest = 0.0
    for i in range(n_out):
        inside = lo <= i < hi
        at = i - lo if inside else hi - lo
        start, n, top = _tap(i, n_in, scale, filter_, antialias, support, size, real, at * row)
        largest = max(largest, top)
        if inside:
            first[at] = start
            count[at] = n
    precision = 0
    while precision < 22 and int(0.5 + largest * (1 << (precision + 1))) < 1 << 15:
        precision += 1
    one = float(1 << precision)
    for i in range(hi - lo):
        for j in range(row):
            v = real[i * row + j] * one if j < count[i] else 0.0
            table[i * row + j] = np.int32(v - 0.5 if v < 0 else v + 0.5)
    return np.int32(precision)


def weight_tables(
    n_in: int, n_out: int, filter_: int, antialias: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """(first, count, weights int16[n_out, taps], precision) of a whole axis."""
    row = taps(n_in, n_out, filter_, antialias)
    first, count = np.empty(n_out, np.int32), np.empty(n_out, np.int32)
    table = np.empty(n_out * row, np.int16)
    real = np.empty((n_out + 1) * row)
    precision = weights(n_in, n_out, filter_, antialias, 0, n_out, first, count, table, real)
    return first, count, table.reshape(n_out, row), int(precision)


@njit(nogil=True)
def _source(i, n, mode):  # type: ignore[no-untyped-def]
    """Pixel of 0..n-1 shown at position i of the padded line, -1 for the fill."""
    while i < 0 or i >= n:
        if mode == CONSTANT:
            return -1
        if mode == EDGE or n == 1:
            return 0 if i < 0 else n - 1
        i = (0 if i < 0 else 2 * n - 2) - i if mode == REFLECT else (-1 if i < 0 else 2 * n - 1) - i
    return i


@njit(nogil=True)
def _expand(index, lo, n_in, width, row, chunks, table, wide):  # type: ignore[no-untyped-def]
    """Lay weights out for the horizontal pass: wide[block][chunk][quad][2][4 columns][4 pairs]."""
    blocks = (width + 15) // 16
    for x in range(blocks * 16):
        i = np.int64(index[WHERE_X, x]) - lo if x < width else np.int64(-1)
        if i < 0 or i + lo < 0:
            i = np.int64(0)  # padding: anything, it is filled later
        first, count = np.int64(index[FIRST, i]), np.int64(index[COUNT, i])
        shift = min(max(first + 4 * chunks - n_in, 0), first) if n_in >= 4 * chunks else 0
        index[COLUMN, x] = first - shift
        for k in range(chunks):
            to = ((x // 16 * chunks + k) * 4 + x % 16 // 4) * 64 + x % 4 * 8
            for t in range(4):
                j = 4 * k + t - shift
                w = table[i * row + j] if 0 <= j < count else np.int16(0)
                for c in range(4):
                    wide[to + t // 2 * 32 + 2 * c + t % 2] = w


@njit(nogil=True, cache=True)
def crop(  # type: ignore[no-untyped-def]
    src, offset, stride_y, stride_x, stride_c, box, resized, window, flip, filter_, antialias, padding_mode, fill, out,
    scratch,
):
    """Resample a box of the image in `src` to `resized`, cut `out`'s window from it, pad and mirror it.

    src uint8[:], pixel (y, x, c) at offset + y * stride_y + x * stride_x + c * stride_c; box = top, left, height,
    width; resized = height, width; window = top, left in the resized image; flip = horizontal, vertical; fill
    float32[C]; out uint8[C, H, W], contiguous; scratch of make_scratch, one a thread, too small raises ValueError.
    """
    mid, index, table, wide, real = scratch
    kind = filter_
    if filter_ == NEAREST_EXACT and resized[0] + resized[1] <= 128:
        kind = NEAREST_EXACT_SMALL
    planes, height, width = out.shape
    base = offset + box[0] * stride_y + box[1] * stride_x
    pitch = (width + 15) // 16 * 16
    chunks = 1
    row = 2
    lo = np.int64(0)
    precision = np.int32(0)
    for axis in range(1, -1, -1):
        n_in, n_out, start = np.int64(box[2 + axis]), np.int64(resized[axis]), np.int64(window[axis])
        size = width if axis else height
        where = WHERE_X if axis else WHERE_Y
        if index.shape[1] < max(size + 15, n_in if axis == 0 else 0):
            raise ValueError("scratch is too small")
        lo, hi = n_out, np.int64(0)
        for x in range(size):
            i = _source(start + x, n_out, padding_mode)
            index[where, size - 1 - x if flip[1 - axis] else x] = i
            if i >= 0:
                lo = min(lo, i)
                hi = max(hi, i + 1)
        if hi <= lo:
            for c in range(planes):
                out[c] = np.uint8(fill[c])
            return
        row = taps(n_in, n_out, filter_, antialias)
        if (hi - lo + 1) * row > min(real.size, table.size):
            raise ValueError("scratch is too small")
        precision_y = weights(n_in, n_out, kind, antialias, lo, hi, index[FIRST], index[COUNT], table, real)
        if axis:
            precision = precision_y
            widest = 1
            for i in range(hi - lo):
                widest = max(widest, np.int64(index[COUNT, i]))
            chunks = (widest + 3) // 4
            if 16 * pitch * chunks > wide.size:
                raise ValueError("scratch is too small")
            _expand(index, lo, n_in, width, row, chunks, table, wide)
    n_x = np.int64(box[3])
    lowest, highest = np.int64(index[COLUMN, 0]), np.int64(index[COLUMN, 0])
    for x in range(pitch):
        lowest = min(lowest, np.int64(index[COLUMN, x]))
        highest = max(highest, np.int64(index[COLUMN, x]))
    n_rows, done = 0, 0
    for i in range(height):
        i = i if hi - lo > i else 0
        for r in range(max(done, np.int64(index[FIRST, i])), index[FIRST, i] + index[COUNT, i]):
            index[SLOT, r] = n_rows
            index[ROW, n_rows] = r
            n_rows += 1
            done = r + 1
    lines = n_rows * planes
    line = (lines + planes + 4 * ROWS) * pitch
    room = 4 * (highest + 4 * chunks + 16)
    if line + ROWS * room > mid.size:
        raise ValueError("scratch is too small")

    q = 0
    if planes == 3 and stride_c == 1 and stride_x == 3:  # interleaved RGB is read in place, where that stays in src
        for q in range(0, lines, 3 * ROWS):
            r = q // 3
            rows = (
                base + index[ROW, r] * stride_y,
                base + index[ROW, min(r + 1, n_rows - 1)] * stride_y,
                base + index[ROW, min(r + 2, n_rows - 1)] * stride_y,
                base + index[ROW, min(r + 3, n_rows - 1)] * stride_y,
            )
            if max(rows[0], rows[3]) + 3 * (highest + 4 * chunks) + 4 > src.size:
                break
            for block in range(pitch // 16):
                ahead = ROWS * stride_y + 3 * np.int64(index[COLUMN, 16 * block])
                for k in range(ROWS):
                    _prefetch(src, rows[k] + ahead)  # the processor's own prefetcher stops at every row of the box
                _horizontal3(
                    src, rows, index, COLUMN * index.shape[1], wide, block, chunks, precision, mid, q * pitch, pitch
                )
        else:
            q = lines
    stop = min(highest + 4 * chunks, n_x)
    for first_line in range(q, lines, 4 * ROWS):  # anything else is interleaved first, by four lines
        for group in range(ROWS):
            q = first_line + 4 * group
            at0 = _line(base, q, lines, planes, stride_y, stride_c, index)
            at1 = _line(base, q + 1, lines, planes, stride_y, stride_c, index)
            at2 = _line(base, q + 2, lines, planes, stride_y, stride_c, index)
            at3 = _line(base, q + 3, lines, planes, stride_y, stride_c, index)
            to = line + group * room
            x = lowest
            if stride_x == 1:
                while x < stop and max(max(at0, at1), max(at2, at3)) + x + 16 <= src.size:
                    _interleave(src, at0 + x, at1 + x, at2 + x, at3 + x, mid, to + 4 * x)
                    x += 16
            while x < stop:
                mid[to + 4 * x] = src[at0 + x * stride_x]
                mid[to + 4 * x + 1] = src[at1 + x * stride_x]
                mid[to + 4 * x + 2] = src[at2 + x * stride_x]
                mid[to + 4 * x + 3] = src[at3 + x * stride_x]
                x += 1
        rows = (line, line + room, line + 2 * room, line + 3 * room)
        for block in range(pitch // 16):
            _horizontal4(
                mid, rows, index, COLUMN * index.shape[1], wide, block, chunks, precision, mid, first_line * pitch,
                pitch,
            )

    x0, x1 = 0, width
    while index[WHERE_X, x0] < 0:
        x0 += 1
    while index[WHERE_X, x1 - 1] < 0:
        x1 -= 1
    for y in range(height):
        i = np.int64(index[WHERE_Y, y]) - lo
        if index[WHERE_Y, y] < 0:
            for c in range(planes):
                for x in range(width):
                    out[c, y, x] = np.uint8(fill[c])
            continue
        count = np.int64(index[COUNT, i])
        for c in range(planes):
            at = (index[SLOT, index[FIRST, i]] * planes + c) * pitch
            if width >= 32:
                for x in range(0, width, 32):
                    x = min(x, width - 32)
                    _vertical(
                        mid, at + x, planes * pitch, table, i * row, (count + 1) // 2, precision_y,
                        out, (c * height + y) * width + x,
                    )
            else:
                for x in range(width):
                    total = np.int32(1) << (precision_y - np.int32(1))
                    for j in range(count):
                        total += np.int32(mid[at + j * planes * pitch + x]) * np.int32(table[i * row + j])
                    out[c, y, x] = min(max(total >> precision_y, np.int32(0)), np.int32(255))
            for x in range(x0):
                out[c, y, x] = np.uint8(fill[c])
            for x in range(x1, width):
                out[c, y, x] = np.uint8(fill[c])


@njit(nogil=True)
def _line(base, q, lines, planes, stride_y, stride_c, index):  # type: ignore[no-untyped-def]
    q = min(q, lines - 1)
    return base + index[ROW, q // planes] * stride_y + q % planes * stride_c


def make_scratch(max_width: int, max_height: int, channels: int, out_h: int, out_w: int) -> Scratch:
    """Working memory of one thread, large enough for boxes up to max_height x max_width."""
    pitch, side = (out_w + 15) // 16 * 16, max(out_h, out_w)
    most = 8 * max(max_width, max_height) + 8 * (side + 1)
    mid = ((max_height + 1) * channels + 4 * ROWS) * pitch + 4 * ROWS * (2 * max_width + 64)
    return (
        np.empty(mid, np.uint8),
        np.empty((7, max(side + 16, max_height)), np.int32),
        np.empty(most, np.int16),
        np.empty(4 * pitch * (max_width + 8), np.int16),  # its far end is only touched by a tiny image padded wide
        np.empty(most, np.float64),
    )
