"""PTX read into instructions, and the threads that run them (long: an entry for each instruction)."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from .ptx_numbers import (
    COMPARE,
    DTYPE,
    KINDS,
    UINT,
    Array,
    bits,
    compare,
    flush,
    formula,
    number,
    raw,
    width_of,
)

WARP = 32
WAVE = 4096  # threads that run side by side: enough to hide numpy's overhead, few enough for the caches
SECTOR = 32  # bytes
POISON = 0xA5  # in registers and shared memory before they are written
WINDOW = 40  # bits of address space around each buffer, which begins in the middle
SHARED = 0  # the window of shared memory

Source = Callable[[], Array]
Write = Callable[[Array, Array], None]  # of a number, to the lanes of a mask
Act = Callable[[Array], None]  # of the lanes on which an instruction works
Jump = Callable[[int, Array], None]  # of its place in the code, and those lanes
Key = tuple[int, str, int]  # of a register: scope, name, width
Places = Callable[[Array], Iterator[tuple[Array, Array, Array]]]  # words of a memory, (N, count) indices, N lanes

ORDER = "ca cg cs cv lu wb wt nc volatile weak relaxed acquire release acq_rel cta gpu sys global shared shared::cta"
# fmt: off
REDUCE = {
    "add": np.add, "min": np.fmin, "max": np.fmax, "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
}
ATOMIC = REDUCE | {"exch": lambda old, new: new, "cas": lambda old, want, new: new if old == want else old}
KNOWN = {  # modifiers of what is not a formula; hints to a cache may stand anywhere
    "mov": "", "ret": "", "exit": "", "bra": "uni", "brx": "idx uni", "bar": "sync warp", "createpolicy": "fractional",
    "ld": f"{ORDER} param v2 v4 v8", "st": f"{ORDER} v2 v4 v8",
    "atom": f"{ORDER} {' '.join(ATOMIC)}", "red": f"{ORDER} {' '.join(ATOMIC)}",
    "setp": f"{' '.join(COMPARE)} equ neu ltu leu gtu geu num nan and or xor ftz",
    "shfl": "sync up down bfly idx", "redux": "sync add min max and or xor", "vote": "sync ballot all any uni",
    "ldmatrix": "sync aligned m8n8 x1 x2 x4 trans shared shared::cta",
    "stmatrix": "sync aligned m8n8 x1 x2 x4 trans shared shared::cta",
}
# fmt: on
SPECIAL = {f"%{name}.{axis}" for name in ("tid", "ntid", "ctaid", "nctaid") for axis in "xyz"} | {"%laneid"}


@dataclass
class Traffic:
    """Of one buffer: warp requests, the 32-byte sectors that they touch, and the bytes that threads asked for."""

    requests: int = 0
    sectors: int = 0
    bytes: int = 0


@dataclass
class Counts:
    """Warp instructions by opcode, each once for a warp with a lane there; traffic by ("ld", "st" or "atom", name)."""

    instructions: Counter[str] = field(default_factory=Counter)
    traffic: dict[tuple[str, str], Traffic] = field(default_factory=lambda: defaultdict(Traffic))


@dataclass
class Memory:
    data: Array  # bytes
    name: str
    base: int  # address of the first


NOWHERE = Memory(np.zeros(0, np.uint8), "no buffer", 0)


@dataclass
class Instruction:
    text: str
    opcode: str
    mods: set[str]
    kinds: list[str]
    operands: list[str]
    guard: Source | None = None
    act: Act | None = None
    jump: Jump | None = None


def middle(window: int) -> int:
    """Where a buffer begins, so that far offsets to both sides still miss the next one."""
    return (2 * window + 1) << WINDOW - 1


def split(operand: str) -> list[str]:
    """The parts of {a, b}, or the operand alone."""
    return [part.strip() for part in operand.strip("{} ").split(",")]


def padded(size: int) -> int:
    """To the next multiple of 16."""
    return -(-size // 16) * 16


class Code:
    """The code of one kernel, and its threads.

    The threads of some blocks run in step. Of those that branched apart, the ones lowest in the text go first, so that
    they meet again where the branches join.
    """

    def __init__(self, text: str, shared: int | None, approximate: bool) -> None:
        self.approximate = approximate
        text = re.sub(r"//.*|^\s*\.(?:loc|file)\b.*", "", text, flags=re.M)
        entry = re.search(r"\.entry\s+[\w$]+\s*\(([^)]*)\)[^{]*\.reqntid\s+(\d+)[^{]*\{", text)
        if not entry:
            raise ValueError("Emulator: the source must be PTX with an entry and `.reqntid`.")
        declared = re.findall(r"\.param\s+\.(\w+)[^,]*?([\w$]+)\s*(?:,|$)", entry[1])
        self.parameters = {name: kind for kind, name in declared}
        self.threads = int(entry[2])
        self.symbols: dict[str, int] = {}
        self.tables: dict[int, Memory] = {}
        table = r"\.(?:global|const)\s[^;{]*?\.b(\d+)\s+([\w$]+)\[(\d+)\]\s*=\s*\{([^}]*)\}"
        for window, (width, name, size, values) in enumerate(re.findall(table, text), 1):
            data = np.zeros(int(size), UINT[int(width)])
            data[: values.count(",") + 1] = [int(value) & (1 << int(width)) - 1 for value in values.split(",")]
            self.symbols[name] = middle(-window)
            self.tables[-window] = Memory(data.view(np.uint8), name, self.symbols[name])
        top, arrays = 0, re.findall(r"\.shared\s[^;{]*?\.b8\s+([\w$]+)\[(\d*)\]", text)
        for name, size in sorted(arrays, key=lambda array: not array[1]):  # the dynamic one, without a size, is last
            self.symbols[name], top = top, top + padded(int(size or 0))
        self.shared = padded(top if shared is None else shared)
        self.code: list[Instruction] = []
        self.keys: set[Key] = set()
        self.labels: dict[str, int] = {}
        self.targets: dict[str, list[str]] = {}
        self._parse(text[entry.end() :])

    def _parse(self, body: str) -> None:
        self.scopes: list[dict[str, int]] = [{"": 0}]  # declared names and their widths; the empty name has the number
        label, numbers = "", 0
        for match in re.finditer(r"\s*(?:([\w$]+):(?!:)|([{}])|([^;]*);)", body):
            text = " ".join((match[3] or "").split())
            if match[1]:
                label = match[1]
                self.labels[label] = len(self.code)
            elif match[2] == "{":
                numbers += 1
                self.scopes.append({"": numbers})
            elif match[2]:
                self.scopes.pop()
                if not self.scopes:
                    break
            elif text.startswith(".reg "):
                kind, names = text.removeprefix(".reg .").split(None, 1)
                self.scopes[-1] |= {re.sub(r"<\d+>", "<", name.strip()): width_of(kind) for name in names.split(",")}
            elif text.startswith(".branchtargets"):
                self.targets[label] = split(text.removeprefix(".branchtargets"))
            elif not text.startswith(".pragma"):
                try:
                    self.code.append(self._decode(text))
                except (LookupError, ValueError, TypeError, AttributeError) as error:
                    raise NotImplementedError(f"Emulator: cannot run `{text}`.") from error
        self.code.append(Instruction("ret", "ret", set(), [], [], jump=self._leave))

    def _decode(self, text: str) -> Instruction:
        guard, name, rest = re.fullmatch(r"(?:@(!?[%\w]+) )?(\S+)\s*(.*)", text).groups()
        op, *parts = name.split(".")
        mods = {part for part in parts if part not in KINDS and not part.startswith(("L1::", "L2::"))}
        operands = [operand.strip() for operand in re.findall(r"\{[^}]*\}|\[[^\]]*\]|[^,\s][^,]*", rest)]
        made = Instruction(text, name, mods, [part for part in parts if part in KINDS], operands)
        made.guard = self._source(guard, "pred") if guard else None
        if op not in KNOWN:
            made.act = self._compute(operands, *formula(op, mods, made.kinds, self.approximate))
        elif mods - set(KNOWN[op].split()):
            raise KeyError(op)
        elif op in ("bra", "brx", "ret", "exit", "bar") and "warp" not in mods:
            made.jump = self._branch(op, operands)
        else:
            made.act = getattr(self, f"_{op}")(made)
        return made

    # ---- Operands

    def _register(self, name: str) -> Key | None:
        """In the innermost scope that declares it, alone or in a range such as %r<9>."""
        for scope in reversed(self.scopes):
            for declared in (name, name.rstrip("0123456789") + "<"):
                if declared in scope:
                    self.keys.add(key := (scope[""], name, scope[declared]))
                    return key
        return None

    def _source(self, operand: str, kind: str) -> Source:
        """What an operand holds, as a number; of a wider register the low bits."""
        width, key = width_of(kind), self._register(operand.removeprefix("!"))
        if operand[0] == "!":
            return lambda: ~self.registers[key]
        if operand in SPECIAL and width == 32:
            return lambda: number(self.special[operand], kind)
        if key and key[2] > width:
            return lambda: number(self.registers[key].astype(UINT[width]), kind)
        if key and key[2] == width:
            return lambda: number(self.registers[key], kind)
        constant = self.symbols.get(operand)
        if constant is None:
            constant = int(operand[2:], 16) if operand[:2] in ("0f", "0d") else int(operand.rstrip("U"), 0)
        value = np.bool_(constant) if kind == "pred" else number(UINT[width](constant & (1 << width) - 1), kind)
        return lambda: value

    def _target(self, operand: str, kind: str) -> Write:
        """How to write a number to a register; the rest of a wider one gets the sign, or zeros."""
        key, width = self._register(operand), width_of(kind)
        if operand == "_":
            return lambda value, on: None
        if key is None or key[2] < width:
            raise ValueError(operand)

        def write(value: Array, on: Array) -> None:
            held = bits(value, kind)
            if key[2] > width:
                held = (held.view(DTYPE[kind]) if kind[0] == "s" else held).astype(UINT[key[2]])
            np.copyto(self.registers[key], held, where=on)

        return write

    def _compute(self, operands: list[str], function: Callable[..., Array], kind: str, kinds: list[str]) -> Act:
        write = self._target(operands[0], kind)
        values = [self._source(operand, source) for operand, source in zip(operands[1:], kinds, strict=False)]
        return lambda on: write(function(*(value() for value in values)), on)

    def _places(self, made: Instruction, operand: str, size: int, count: int) -> Places:
        """How to find `count` words of `size` bytes for each lane of a mask, in every memory that the lanes address."""
        name, step = re.fullmatch(r"\[ ?([%\w$]+) ?(?:\+ ?(-?\d+) ?)?\]", operand).groups()
        remote, length, what = "global" in made.mods, size * count, made.opcode.split(".")[0].replace("red", "atom")
        base = self._source(name, "u64" if remote else "u32")

        def places(on: Array) -> Iterator[tuple[Array, Array, Array]]:
            every = np.flatnonzero(on)
            where = np.broadcast_to(base(), on.shape)[every].astype(np.int64) + int(step or 0)
            windows = where >> WINDOW if remote else np.full_like(where, SHARED)
            for window in np.unique(windows).tolist():
                lanes, at = every[windows == window], where[windows == window]
                memory = self.memories.get(window, NOWHERE) if remote else self.memories[SHARED]
                room = memory.data.size if remote else self.shared
                bad = (at < memory.base) | (at + length > memory.base + room) | (at % length != 0)
                if bad.any():
                    lane, byte = lanes[bad][0], int(at[bad][0]) - memory.base
                    raise IndexError(
                        f"Emulator: `{made.text}` at byte {byte:#x} of {memory.name}, which has {room}, is out of "
                        f"bounds or misaligned, in thread {lane % self.threads} of block {self.block[lane]}."
                    )
                if remote:
                    traffic, warps = self.counts.traffic[what, memory.name], lanes // WARP
                    traffic.requests += np.unique(warps).size
                    traffic.sectors += np.unique(at // SECTOR + (warps << WINDOW + 8)).size
                    traffic.bytes += length * lanes.size
                else:
                    at = at + lanes // self.threads * self.shared
                skip = -memory.base % size
                words = memory.data[skip : skip + (memory.data.size - skip) // size * size].view(UINT[size * 8])
                yield words, (at - memory.base - skip)[:, None] // size + np.arange(count), lanes

        return places

    # ---- Moving

    def _mov(self, made: Instruction) -> Act:
        kind, into, out_of = raw(made.kinds[0]), split(made.operands[0]), split(made.operands[1])
        if len(into) == len(out_of):
            return self._compute(made.operands, np.asarray, kind, [kind])
        part, word = width_of(kind) // max(len(into), len(out_of)), UINT[width_of(kind)]
        writes = [self._target(name, f"b{part}" if len(into) > 1 else kind) for name in into]
        values = [self._source(name, f"b{part}" if len(out_of) > 1 else kind) for name in out_of]

        def act(on: Array) -> None:
            whole = sum((value().astype(word) << i * part for i, value in enumerate(values)), word(0))
            for i, write in enumerate(writes):
                write((whole >> i * part).astype(UINT[part]) if len(writes) > 1 else whole, on)

        return act

    def _createpolicy(self, made: Instruction) -> Act:
        return lambda on: None

    _bar = _createpolicy  # bar.warp.sync: lanes run in step anyway

    def _ld(self, made: Instruction) -> Act:
        kind = made.kinds[0] if made.kinds[0][0] == "s" else raw(made.kinds[0])
        writes = [self._target(name, kind) for name in split(made.operands[0])]
        if "param" in made.mods:
            name = made.operands[1].strip("[] ")
            if name not in self.parameters:
                raise KeyError(name)
            return lambda on: writes[0](self.values[name], on)
        places = self._places(made, made.operands[1], width_of(kind) // 8, len(writes))

        def act(on: Array) -> None:
            held = np.zeros((len(writes), on.size), UINT[width_of(kind)])
            for words, index, lanes in places(on):
                held[:, lanes] = words[index].T
            for write, value in zip(writes, held, strict=True):
                write(value, on)

        return act

    def _st(self, made: Instruction) -> Act:
        values = [self._source(name, raw(made.kinds[0])) for name in split(made.operands[1])]
        places = self._places(made, made.operands[0], width_of(made.kinds[0]) // 8, len(values))

        def act(on: Array) -> None:
            held = np.stack([np.broadcast_to(value(), on.shape) for value in values], -1)
            for words, index, lanes in places(on):
                words[index] = held[lanes]

        return act

    def _atom(self, made: Instruction) -> Act:
        """One lane after the other."""
        (name,), kind = made.mods & set(ATOMIC), made.kinds[0]
        target, place, *given = made.operands if made.opcode.startswith("atom") else ["_", *made.operands]
        write, dtype, places = (
            self._target(target, kind),
            DTYPE[kind],
            self._places(made, place, width_of(kind) // 8, 1),
        )
        values = [self._source(operand, kind) for operand in given]

        def act(on: Array) -> None:
            old, inputs = np.zeros(on.size, dtype), [np.broadcast_to(value(), on.shape) for value in values]
            for words, index, lanes in places(on):
                memory = words.view(dtype)
                for lane, i in zip(lanes.tolist(), index[:, 0].tolist(), strict=True):
                    old[lane] = memory[i]
                    memory[i] = ATOMIC[name](memory[i], *(value[lane] for value in inputs))
            write(old, on)

        return act

    _red = _atom

    def _setp(self, made: Instruction) -> Act:
        (joint,), kind = made.mods & {"and", "or", "xor"} or {""}, made.kinds[0]
        (test,) = made.mods - {joint, "ftz"}
        holds, before = compare(test, kind), flush if "ftz" in made.mods else np.asarray
        writes = [self._target(name, "pred") for name in made.operands[0].split("|")]
        a, b, *c = map(self._source, made.operands[1:], (kind, kind, "pred"))

        def act(on: Array) -> None:
            result = holds(before(a()), before(b()))
            for write, value in zip(writes, (result, ~result), strict=False):
                write(REDUCE[joint](value, c[0]()) if c else value, on)

        return act

    # ---- Between the lanes of a warp

    def _whole(self, made: Instruction, on: Array, mask: Array) -> None:
        rows = on.reshape(-1, WARP)
        if (rows.any(1) != rows.all(1)).any() or (np.broadcast_to(mask, on.shape)[on] != 0xFFFFFFFF).any():
            raise NotImplementedError(f"Emulator: cannot run `{made.text}` in a part of a warp.")

    def _shfl(self, made: Instruction) -> Act:
        names, (how,) = made.operands[0].split("|"), made.mods - {"sync"}
        writes = [self._target(name, kind) for name, kind in zip(names, ("b32", "pred"), strict=False)]
        value, by, limits, mask = (self._source(operand, "b32") for operand in made.operands[1:])

        def act(on: Array) -> None:
            self._whole(made, on, mask())
            lane, step, clamp = np.arange(on.size) % WARP, by().astype(np.int64) & 31, limits().astype(np.int64)
            first, free = lane & clamp >> 8, ~(clamp >> 8) & 31  # of the segment: its first lane, the bits within
            other = {"up": lane - step, "down": lane + step, "bfly": lane ^ step, "idx": first | (step & free)}[how]
            last = first | (clamp & free)
            valid = other >= last if how == "up" else other <= last
            moved = np.broadcast_to(value(), on.shape)[np.arange(on.size) + np.where(valid, other - lane, 0)]
            for write, result in zip(writes, (moved, valid), strict=False):
                write(result, on)

        return act

    def _redux(self, made: Instruction) -> Act:
        (name,), kind = made.mods & set(REDUCE), made.kinds[0]
        write, (value, mask) = self._target(made.operands[0], kind), map(self._source, made.operands[1:], (kind, "b32"))

        def act(on: Array) -> None:
            self._whole(made, on, mask())
            rows = np.broadcast_to(value(), on.shape).reshape(-1, WARP)
            write(np.repeat(REDUCE[name].reduce(rows, axis=1, dtype=rows.dtype), WARP), on)

        return act

    def _vote(self, made: Instruction) -> Act:
        """Of a predicate over the lanes of a warp; of a ballot, bit i is lane i's."""
        (how,), kind = made.mods - {"sync"}, made.kinds[0]
        write, value = self._target(made.operands[0], kind), self._source(made.operands[1], "pred")
        mask = self._source(made.operands[2], "b32")
        if (how == "ballot") != (kind == "b32"):
            raise KeyError(kind)
        bit = np.uint32(1) << np.arange(WARP, dtype=np.uint32)
        count: dict[str, Callable[[Array], Array]] = {
            "ballot": lambda rows: np.where(rows, bit, np.uint32(0)).sum(axis=1, dtype=np.uint32),
            "all": lambda rows: rows.all(axis=1),
            "any": lambda rows: rows.any(axis=1),
            "uni": lambda rows: rows.all(axis=1) | ~rows.any(axis=1),
        }

        def act(on: Array) -> None:
            self._whole(made, on, mask())
            rows = np.broadcast_to(value(), on.shape).reshape(-1, WARP)
            write(np.repeat(count[how](rows), WARP), on)

        return act

    def _ldmatrix(self, made: Instruction) -> Act:
        """Tiles of 8 rows of 16 bytes: lane i of a warp holds the address of row i, and gets word i of each tile."""
        writes = [self._target(name, "b32") for name in split(made.operands[0])]
        places = self._places(made, made.operands[1], 4, 4)

        def act(on: Array) -> None:
            self._whole(made, on, np.uint32(0xFFFFFFFF))
            rows = np.zeros((on.size, 4), np.uint32)
            for words, index, lanes in places(on & (np.arange(on.size) % WARP < 8 * len(writes))):
                rows[lanes] = words[index]
            for i, write in enumerate(writes):
                tile = rows.reshape(-1, WARP, 4)[:, 8 * i : 8 * i + 8].copy().view(np.uint16)
                tile = tile.swapaxes(1, 2).copy() if "trans" in made.mods else tile
                write(tile.view(np.uint32).reshape(-1), on)

        return act

    def _stmatrix(self, made: Instruction) -> Act:
        """Of sm_90, the inverse: lane i holds the address of row i, and gives word i of each tile."""
        values = [self._source(name, "b32") for name in split(made.operands[1])]
        places = self._places(made, made.operands[0], 4, 4)

        def act(on: Array) -> None:
            self._whole(made, on, np.uint32(0xFFFFFFFF))
            rows = np.zeros((on.size // WARP, WARP, 4), np.uint32)
            for i, value in enumerate(values):
                tile = np.broadcast_to(value(), on.shape).reshape(-1, 8, 4).copy().view(np.uint16)
                tile = tile.swapaxes(1, 2).copy() if "trans" in made.mods else tile
                rows[:, 8 * i : 8 * i + 8] = tile.view(np.uint32)
            for words, index, lanes in places(on & (np.arange(on.size) % WARP < 8 * len(values))):
                words[index] = rows.reshape(-1, 4)[lanes]

        return act

    # ---- Branches

    def _branch(self, op: str, operands: list[str]) -> Jump:
        if op == "bra":
            return lambda place, on: self._go(self.labels[operands[0]], on)
        if op == "bar" and (operands[0] != "0" or operands[1:] not in ([], [str(self.threads)])):
            raise KeyError(op)
        if op != "brx":
            return self._wait if op == "bar" else self._leave
        which = self._source(operands[0], "u32")

        def jump(place: int, on: Array) -> None:
            for i, label in enumerate(self.targets[operands[1]]):
                self._go(self.labels[label], on & (which() == i))

        return jump

    def _go(self, place: int, lanes: Array) -> None:
        if lanes.any():
            self.waiting[place] = self.waiting[place] | lanes if place in self.waiting else lanes

    def _leave(self, place: int, on: Array) -> None:
        self.gone |= on
        self._open()

    def _wait(self, place: int, on: Array) -> None:
        self.arrived |= on
        self.parked.append((place + 1, on))
        self._open()

    def _open(self) -> None:
        """The barrier, for each block whose threads have all come to it or left."""
        full = np.repeat((self.arrived | self.gone).reshape(-1, self.threads).all(1), self.threads)
        self.arrived &= ~full
        for place, lanes in self.parked:
            self._go(place, lanes & full)
        self.parked = [(place, lanes & ~full) for place, lanes in self.parked if (lanes & ~full).any()]

    # ---- Launch

    def launch(self, sides: Sequence[int], values: dict[str, Array], memories: dict[int, Memory]) -> Counts:
        """Run a grid of blocks: `values` are the bits of the parameters, `memories` what they point to."""
        self.counts, self.values, self.memories = Counts(), values, memories | self.tables
        blocks, step, issued = int(np.prod(sides)), max(1, WAVE // self.threads), np.zeros(len(self.code), np.int64)
        with np.errstate(all="ignore"):
            for first in range(0, blocks, step):
                self._wave(np.arange(first, min(first + step, blocks)), sides, issued)
        for made, count in zip(self.code, issued.tolist(), strict=True):
            self.counts.instructions[made.opcode] += count
        return self.counts

    def _wave(self, blocks: Array, sides: Sequence[int], issued: Array) -> None:
        threads = blocks.size * self.threads
        thread, block = np.arange(threads) % self.threads, np.repeat(blocks, self.threads)
        self.block = np.stack([block % sides[0], block // sides[0] % sides[1], block // (sides[0] * sides[1])], -1)
        special = {"%laneid": thread % WARP}
        for i, axis in enumerate("xyz"):
            special |= {f"%ctaid.{axis}": self.block[:, i], f"%nctaid.{axis}": np.full(threads, sides[i])}
            special |= {f"%tid.{axis}": thread * (i == 0), f"%ntid.{axis}": np.full(threads, 1 if i else self.threads)}
        self.special = {name: value.astype(np.uint32) for name, value in special.items()}
        self.memories[SHARED] = Memory(np.full(blocks.size * self.shared, POISON, np.uint8), "shared memory", 0)
        poison = {width: np.full(threads * width // 8, POISON, np.uint8).view(UINT[width]) for width in UINT}
        poison[1] = np.ones(threads, bool)
        self.registers = {key: poison[key[2]].copy() for key in self.keys}
        self.waiting, self.parked = {0: np.ones(threads, bool)}, []
        self.arrived, self.gone = np.zeros(threads, bool), np.zeros(threads, bool)
        while self.waiting:
            place = min(self.waiting)
            here = self.waiting.pop(place)
            meeting, warps = min(self.waiting, default=-1), np.count_nonzero(here.reshape(-1, WARP).any(1))
            while place != meeting:
                made = self.code[place]
                issued[place] += warps
                on = here & made.guard() if made.guard else here
                if made.jump:
                    made.jump(place, on)
                    self._go(place + 1, here & ~on)
                    break
                made.act(on)
                place += 1
            else:
                self._go(place, here)
