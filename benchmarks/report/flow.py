"""Draw the way of a batch from files to the network, as docs/how.md shows it: `python -m benchmarks.report.flow`."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from pathlib import Path

__all__ = ["FILE", "drawing"]

FILE = Path(__file__).parents[2] / "docs" / "pictures" / "flow.svg"
FONT = "system-ui, -apple-system, Segoe UI, Roboto, Noto Sans, sans-serif"
WIDTH, LEFT, RIGHT = 500, 12, 488  # pixels
INK, DIM, PAPER, LINE = "#1f2328", "#57606a", "#ffffff", "#8b949e"
GREY, BLUE, PALE, GREEN = "#f3f4f6", "#ddf4ff", "#ffffff", "#dafbe1"
TITLE = "From files to the network"


@dataclass
class Sheet:
    """The elements so far, and where the next one begins, in pixels from the top."""

    top: int = 16
    elements: list[str] = field(default_factory=list)

    def text(self, x: float, y: float, words: str, size: int = 14, color: str = INK, style: str = "") -> None:
        self.elements.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{color}" {style}>{escape(words)}</text>'
        )

    def box(self, left: float, top: float, width: float, height: float, fill: str, stroke: str = LINE) -> None:
        place = f'x="{left:g}" y="{top:g}" width="{width:g}" height="{height:g}"'
        self.elements.append(f'<rect {place} rx="6" fill="{fill}" stroke="{stroke}"/>')

    def place(self, title: str, words: str, fill: str = GREY, left: float = LEFT, right: float = RIGHT) -> None:
        """A box with a title and a line below it."""
        self.box(left, self.top, right - left, 50, fill)
        self.text(left + 12, self.top + 21, title, 15, style='font-weight="bold"')
        self.text(left + 12, self.top + 40, words, 13, DIM)

    def arrow(self, words: str) -> None:
        """An arrow down from what was drawn last, with what moves along it."""
        self.top += 50
        end = self.top + 34
        self.elements.append(f'<path d="M40 {self.top + 3} V{end - 8}" stroke="{INK}" stroke-width="2"/>')
        self.elements.append(f'<path d="M34 {end - 9} h12 l-6 8 z" fill="{INK}"/>')
        self.text(56, self.top + 22, words, 13, DIM)
        self.top = end + 3


def drawing() -> str:
    """The picture as SVG."""
    sheet = Sheet()
    sheet.place("Files", "JPEG, PNG, WebP, ..., or a pack")
    sheet.arrow("bytes")
    half = (LEFT + RIGHT) / 2
    sheet.place("Worker process", "decodes, nothing else", right=half - 6)
    sheet.place("Worker process", "decodes, nothing else", left=half + 6)
    sheet.arrow("uint8 images of their own sizes, labels, index")
    sheet.place("One buffer in shared memory", "ga.ragged_collate: all images of the batch")
    sheet.arrow("one copy to the device, one batch ahead")
    _module(sheet)
    sheet.arrow("floats (B, 3, 224, 224), normalised, and labels")
    sheet.place("Network", "forward, backward, step", GREEN)
    height = sheet.top + 50 + 16
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" aria-label="{TITLE}" font-family="{FONT}">'
    )
    back = f'<rect width="{WIDTH}" height="{height}" rx="8" fill="{PAPER}"/>'
    return "\n".join([head, f"<title>{TITLE}</title>", back, *sheet.elements, "</svg>"]) + "\n"


def _module(sheet: Sheet) -> None:
    """The four steps of a call, and where the random numbers come from."""
    steps = (
        ("Check", "shape, dtype, device; no pixel is read"),
        ("Sample", "a box, an angle, two operations for each image"),
        ("Lower", "one row of instructions for each image"),
        ("Render", "crop, instructions, floats; all images in each pass"),
    )
    top, height = sheet.top, 44 + 46 * len(steps) + 40
    sheet.box(LEFT, top, RIGHT - LEFT, height, BLUE, "#0969da")
    sheet.text(LEFT + 12, top + 27, "ga.Augment", 16, style='font-weight="bold"')
    sheet.text(LEFT + 136, top + 27, "one call for the whole batch", 13, DIM)
    for number, (name, words) in enumerate(steps):
        y = top + 40 + 46 * number
        sheet.box(LEFT + 12, y, RIGHT - LEFT - 24, 38, PALE)
        sheet.text(LEFT + 24, y + 24, f"{number + 1}. {name}", 14, style='font-weight="bold"')
        sheet.text(LEFT + 116, y + 24, words, 13)
    y = top + height - 20
    sheet.text(LEFT + 12, y, "Randomness enters in 2 only: a function of seed, epoch, index and look.", 12, DIM)
    sheet.top = top + height - 50


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(drawing(), encoding="utf-8")
    print(f"Wrote {FILE}")
