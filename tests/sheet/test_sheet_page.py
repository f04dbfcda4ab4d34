"""The page of `gpuaug preview` in a real browser: Debian's Chromium, headless, without a network."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

import gpuaug as ga
from gpuaug.demo.photographs import photographs
from gpuaug.sheet.page import Version, to_html
from gpuaug.sheet.tiles import tiles
from gpuaug.sheet.words import code_of
from tests.support.browser import colours, contrast, open_page

pytest.importorskip("jinja2")

STRENGTHS = (0.0, 0.5, 1.0)
NAMES = ["<b class=hostile>one</b>.jpg", "two.jpg"]
PHONE, WIDE = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
FIRST = 1  # place of the slider


def steps(strength: float) -> list[Any]:
    floats = [ga.ToDtype(torch.float32, scale=True), ga.Normalize((0.5, 0.5, 0.5), (0.2, 0.2, 0.2))]
    crop = ga.RandomResizedCrop(48, scale=(1 - 0.8 * strength, 1))
    policy = ga.RandAugment(3, round(12 * strength))
    return [crop, ga.RandomHorizontalFlip(), policy, ga.ColorJitter(0.4 * strength), *floats, ga.CutMix(num_classes=2)]


def versions(images: Sequence[Tensor], strengths: Sequence[float] = STRENGTHS) -> list[Version]:
    found = []
    for strength in strengths:
        augment = ga.Augment(steps(strength), seed=0, backend="torch")
        rows = tiles("preview", augment, images, 3, names=NAMES)
        found.append(Version(f"{strength:g}", code_of(augment.train_pipeline), rows))
    return found


@pytest.fixture(scope="module")
def made() -> list[Version]:
    return versions(photographs()[:2])


@pytest.fixture(scope="module")
def text(made: list[Version]) -> str:
    return to_html("standard <i class=hostile>", "3 versions of each image.", made, FIRST, NAMES)


@pytest.fixture
def opened(browser: Any, text: str, tmp_path: Path) -> Iterator[Any]:
    path = tmp_path / "page.html"
    path.write_text(text, encoding="utf-8")
    tab = open_page(browser, path, WIDE)
    yield tab
    tab.close()


def shown(tab: Any) -> list[str]:
    """Sources of the images that can be seen, without the originals."""
    found: list[str] = tab.evaluate(
        "[...document.querySelectorAll('.tile img')]"
        ".filter(i => getComputedStyle(i).visibility === 'visible').map(i => i.src)"
    )
    return found


def test_it_asks_for_nothing_else(opened: Any) -> None:
    assert opened.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 200)")
    assert [url for url in opened.requests if not url.startswith("data:image/")] == [opened.url]
    assert opened.url.startswith("file:")
    assert opened.complaints == []
    refused = "fetch('https://example.com').then(() => 'loaded', () => 'refused')"
    assert opened.evaluate(refused) == "refused"  # by its own policy, whatever is in a name
    assert "Content Security Policy" in " ".join(opened.complaints)


def test_names_are_text(opened: Any) -> None:
    assert opened.locator(".hostile").count() == 0
    body = opened.locator("body").inner_text()
    assert NAMES[0] in body
    assert "standard <i class=hostile>" in body


def test_each_place_of_the_slider_shows_the_pictures_of_its_strength(opened: Any, made: list[Version]) -> None:
    slider = opened.locator("input[type=range]")
    seen = []
    for place, version in enumerate(made):
        slider.evaluate("(s, v) => { s.value = v; s.dispatchEvent(new Event('input')); }", str(place))
        assert opened.locator("output").inner_text() == version.label
        assert slider.get_attribute("aria-valuetext") == version.label
        sources = shown(opened)
        assert len(sources) == 6
        seen.append(sources)
        tiles = [tile for row in version.rows for tile in row[1:]]
        captions = opened.locator(".tile figure:not(.off) .words").all_inner_texts()
        assert [" ".join(caption.split()) for caption in captions] == [" · ".join(tile.words) for tile in tiles]
        for number, source in enumerate(sources):
            with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as picture:
                small = picture.convert("RGB").resize((48, 48), Image.Resampling.BOX)
            found = torch.frombuffer(bytearray(small.tobytes()), dtype=torch.uint8).reshape(48, 48, 3).permute(2, 0, 1)
            away = [float((found.float() - tile.image.float()).abs().mean()) for tile in tiles]
            assert away.index(min(away)) == number
            assert min(away) < 16  # enlarged, a JPEG, and made small again
    assert len({source for sources in seen for source in sources}) == 18


def test_the_draws_are_the_same_at_every_strength(made: list[Version]) -> None:
    for number in range(2):
        for column in range(1, 4):
            words = [re.sub(r"[−\d.]+", "#", " · ".join(version.rows[number][column].words)) for version in made[1:]]
            assert words[0] == words[1], words
    assert made[0].rows[0][1].words[0] == "crop 100%"


def test_keys_move_the_slider(opened: Any) -> None:
    opened.keyboard.press("Tab")
    assert opened.evaluate("document.activeElement.id") == "strength"
    before = shown(opened)
    opened.keyboard.press("ArrowRight")
    assert opened.locator("output").inner_text() == "1"
    assert not set(shown(opened)) & set(before)
    opened.keyboard.press("ArrowLeft")
    assert shown(opened) == before
    opened.keyboard.press("Home")
    assert opened.locator("output").inner_text() == "0"
    opened.keyboard.press("End")
    assert opened.locator("output").inner_text() == "1"
    opened.keyboard.press("Tab")
    opened.keyboard.press("Enter")
    assert opened.locator("details").get_attribute("open") is not None
    code = opened.locator("pre:not(.off)")
    assert code.is_visible()
    assert "RandAugment(num_ops=3, magnitude=12)" in code.inner_text()


def test_it_has_a_label_and_pictures_have_words(opened: Any) -> None:
    assert opened.get_by_label("Strength").count() == 1
    assert opened.locator("html").get_attribute("lang") == "en"
    alts = [image.get_attribute("alt") for image in opened.locator("img").all()]
    assert all(alts)
    assert "two.jpg, version 3" in alts


def test_the_shares_of_a_mix_are_bars_and_words(opened: Any, made: list[Version]) -> None:
    tile = made[FIRST].rows[1][1]
    assert tile.share is not None
    assert tile.share.other == 0
    figure = opened.locator("section").nth(1).locator(".tile").nth(0).locator("figure:not(.off)")
    assert (
        figure.locator(".share").inner_text() == f"{tile.share.own:.2f} of it, {1 - tile.share.own:.2f} of {NAMES[0]}"
    )
    bar, whole = (figure.locator(selector).bounding_box()["width"] for selector in (".bar span", ".bar"))
    assert bar / whole == pytest.approx(tile.share.own, abs=0.01)


@pytest.mark.parametrize("place", [0, 2])
def test_nothing_is_cut_off_on_a_phone_and_nothing_moves(opened: Any, place: int) -> None:
    opened.set_viewport_size(PHONE)
    assert opened.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    height = opened.evaluate("document.documentElement.scrollHeight")
    opened.locator("input").evaluate("(s, v) => { s.value = v; s.dispatchEvent(new Event('input')); }", str(place))
    assert opened.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert opened.evaluate("document.documentElement.scrollHeight") == height
    opened.evaluate("window.scrollTo(0, 99999)")
    assert opened.locator("input").bounding_box()["y"] >= 0  # it stays in sight


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_by_day_and_night(opened: Any, scheme: str) -> None:
    opened.emulate_media(color_scheme=scheme)
    paper = colours(opened, "body")[1]
    assert (sum(paper) > 600) == (scheme == "light")
    opened.locator("summary").click()
    for selector in ("body", "h1", ".dim", "label", "output", ".words", ".share", "pre", "summary"):
        assert contrast(*colours(opened, selector)) >= 4.5, selector


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(opened: Any, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    opened.emulate_media(color_scheme=scheme)
    opened.locator("summary").click()
    found = axe.Axe().run(opened)
    assert found.violations_count == 0, found.generate_report()


def test_without_a_strength_there_is_no_slider_and_no_script(browser: Any, tmp_path: Path) -> None:
    (one,) = versions(photographs()[:2], [1.0])
    path = tmp_path / "one.html"
    path.write_text(to_html("mine", "3 versions.", [one], 0, NAMES), encoding="utf-8")
    tab = open_page(browser, path, WIDE)
    assert tab.locator("input, script, output").count() == 0
    assert len(shown(tab)) == 6
    tab.close()
