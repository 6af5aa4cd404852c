"""The page in a real, headless Chromium: by mouse and by keyboard, wide and narrow."""

import contextlib
import csv
import io
import os
import shutil
import sys

import pytest

if sys.version_info < (3, 9):
    pytest.skip("the service needs Python 3.9", allow_module_level=True)
playwright = pytest.importorskip(
    "playwright.sync_api", reason="driving a browser needs requirements/browser.txt")
from services import make_engine, make_predictor, running  # noqa: E402 - skips without packages

import service  # noqa: E402

CHROMIUM = os.environ.get("ALBERT_ZH_CHROMIUM") or next(filter(None, map(
    shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if not CHROMIUM:
    pytest.skip("no Chromium: apt-get install chromium, or set ALBERT_ZH_CHROMIUM",
                allow_module_level=True)

TOKEN = "0123456789abcdef"
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 800}


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    """{name: (address of the page, Predictor)}."""
    with contextlib.ExitStack() as stack:
        predictors = {classes: stack.enter_context(make_predictor(
            tmp_path_factory.mktemp("model"), classes, labels)) for classes, labels in (
                (0, None), (2, ["0", "1"]), (3, ["财经", "体育", "<b>科技</b>"]))}
        found = {}
        for name, classes, token in (("pairs", 2, None), ("topics", 3, None),
                                     ("pretrained", 0, None),
                                     ("locked", 2, TOKEN.encode("ascii"))):
            engine = make_engine(predictors[classes])
            stack.callback(engine.close)
            host, port = stack.enter_context(running(service.make_app(engine, token)))
            found[name] = ("http://%s:%d/" % (host, port), predictors[classes])
        yield found


@pytest.fixture
def visit(browser, services):
    """Function that opens the page of a service; the test fails on any error in the browser."""
    contexts, faults = [], []

    def open_page(name, viewport=DESK, locale="en-US", **settings):
        context = browser.new_context(viewport=viewport, locale=locale, **settings)
        context.set_default_timeout(20000)
        contexts.append(context)
        page = context.new_page()
        address = services[name][0]
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: faults.append(request.url)
                if not request.url.startswith((address, "blob:", "data:")) else None)
        page.goto(address)
        if name != "locked":
            page.wait_for_selector("#work:not([hidden])")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not faults


def tabs(page):
    return [tab.inner_text() for tab in page.query_selector_all("[role=tab]") if tab.is_visible()]


def answer(page, panel):
    """Sends a panel's form; returns the text of the answer."""
    page.click("#%s button.primary" % panel)
    page.wait_for_selector("#%s button.primary:not([disabled])" % panel)
    page.wait_for_selector("#%s .answer > *" % panel)
    return page.inner_text("#%s .answer" % panel)


def test_only_what_the_model_can_do_is_offered(visit):
    assert tabs(visit("pairs")) == ["Similarity", "Classify", "Batch"]
    assert tabs(visit("topics")) == ["Classify", "Batch"]
    assert tabs(visit("pretrained")) == ["Similarity", "Fill in", "Batch"]


def test_similarity_is_a_bar(visit, services):
    page = visit("pairs")
    page.fill("#first", "天地人")
    page.fill("#second", "大小<i>x</i>")
    said = answer(page, "similarity")
    number = services["pairs"][1].probabilities([("天地人", "大小<i>x</i>")])[0, 1]
    assert "%.1f %%" % (100 * number) in said
    assert ("the same meaning" if number >= 0.5 else "different meanings") in said
    width = page.eval_on_selector("#similarity .bar > div", "element => element.style.width")
    assert float(width.rstrip("%")) == pytest.approx(100 * number, abs=0.01)
    assert "ms, the model" in page.inner_text("#similarity .time")


def test_classes_are_bars_the_most_probable_first(visit, services):
    page = visit("topics")
    page.fill("#text", "天地人")
    answer(page, "classify")
    numbers = services["topics"][1].probabilities(["天地人"])[0]
    expected = sorted(zip(["财经", "体育", "<b>科技</b>"], numbers), key=lambda pair: -pair[1])
    rows = [row.inner_text().split("\n") for row in page.query_selector_all("#classify li")]
    assert [row[0] for row in rows] == [label for label, _ in expected]  # markup is shown, not run
    assert [row[-1] for row in rows] == ["%.1f %%" % (100 * number) for _, number in expected]


def test_masks_get_words(visit, services):
    page = visit("pretrained")
    page.click("#tab-fill")
    page.fill("#masked", "天人")
    page.click("#fill button.primary")
    page.wait_for_selector("#problem:not([hidden])")
    assert page.inner_text("#problem") == "Write [MASK] where a word is wanted."
    page.click("#insert-mask")
    assert page.input_value("#masked") == "天人[MASK]"
    page.fill("#masked", "天[MASK]人[MASK]")
    said = answer(page, "fill")
    assert not page.is_visible("#problem")
    assert "[MASK] number 1" in said and "[MASK] number 2" in said
    words = services["pretrained"][1].masked_words(["天[MASK]人[MASK]"], 8)[0]
    assert [row.inner_text() for row in page.query_selector_all("#fill li .name")] == [
        word for mask in words for word, _ in mask]


def test_many_lines_become_a_csv_file(visit, services, tmp_path):
    page = visit("pairs")
    page.click("#tab-batch")
    pairs = [("天", "地"), ('"大", 小', "=人"), ("多少", "上下")] * 12  # more than a request holds
    page.fill("#lines", "\n\n".join("%s %s %s" % (a, ("|||", "\t")[i % 2], b)
                                    for i, (a, b) in enumerate(pairs)))
    assert "36 computed" in answer(page, "batch")
    with page.expect_download() as download:
        page.click("#download")
    path = str(tmp_path / "found.csv")
    download.value.save_as(path)
    assert download.value.suggested_filename == "albert_zh.csv"
    with io.open(path, encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["line", "first", "second", "Similarity"]
    assert [row[:3] for row in rows[1:3]] == [["1", "天", "地"], ["3", '"大", 小', "'=人"]]
    expected = services["pairs"][1].probabilities(pairs)[:, 1]
    assert [float(row[3]) for row in rows[1:]] == pytest.approx(list(expected), abs=1e-5)
    page.click("input[value=classify]")
    page.fill("#lines", "天\n大小\t人")
    assert "2 computed" in answer(page, "batch")
    assert len(page.query_selector_all("#batch tbody tr")) == 2


def test_a_wrong_line_is_named(visit, tmp_path):
    page = visit("pairs")
    page.click("#tab-batch")
    page.fill("#lines", "天\t地\n\n人")
    page.click("#batch button.primary")
    page.wait_for_selector("#problem:not([hidden])")
    assert page.inner_text("#problem").startswith("Line 3 does not hold two sentences")
    page.click("[data-language=zh]")
    assert page.inner_text("#problem").startswith("第 3 行没有两句话")
    (tmp_path / "lines.txt").write_bytes("天\t地".encode("gb18030"))
    page.set_input_files("#file", str(tmp_path / "lines.txt"))
    page.wait_for_function("document.getElementById('problem').textContent.includes('UTF-8')")
    (tmp_path / "lines.txt").write_bytes("天\t地\n".encode("utf-8"))
    page.set_input_files("#file", str(tmp_path / "lines.txt"))
    page.wait_for_function("document.getElementById('lines').value === '天\\t地\\n'")
    assert not page.is_visible("#problem")


def test_what_the_service_refuses_is_told(visit):
    page = visit("pairs")
    page.fill("#first", "天" * 501)
    page.click("#similarity button.primary")
    page.wait_for_selector("#problem:not([hidden])")
    assert "at most 500 characters" in page.inner_text("#problem")
    assert page.get_attribute("#problem", "role") == "alert"


def test_both_languages(visit):
    page = visit("pairs", locale="zh-CN")
    assert tabs(page) == ["句子相似度", "分类", "批量"]
    assert page.get_attribute("html", "lang") == "zh-CN"
    answer(page, "similarity")
    page.click("[data-language=en]")
    assert tabs(page) == ["Similarity", "Classify", "Batch"]
    assert page.get_attribute("html", "lang") == "en"
    assert "probability of class" in page.inner_text("#similarity .answer")  # the answer follows
    assert page.get_attribute("[data-language=en]", "aria-pressed") == "true"
    page.reload()
    page.wait_for_selector("#work:not([hidden])")
    assert tabs(page)[0] == "Similarity"  # and is remembered
    chinese, english = page.evaluate("[Object.keys(WORDS.zh), Object.keys(WORDS.en)]")
    assert chinese == english


def test_all_of_it_works_by_keyboard(visit):
    page = visit("pairs")
    focused = "document.activeElement.id || document.activeElement.textContent.trim()"
    page.keyboard.press("Tab")
    assert page.evaluate(focused) == "Skip to the content"
    for expected in ("中文", "English", "tab-similarity"):
        page.keyboard.press("Tab")
        assert page.evaluate(focused) == expected
    page.keyboard.press("ArrowRight")
    assert page.evaluate(focused) == "tab-classify" and page.is_visible("#classify")
    page.keyboard.press("End")
    assert page.evaluate(focused) == "tab-batch"
    page.keyboard.press("ArrowRight")  # round and round
    assert page.evaluate(focused) == "tab-similarity" and page.is_visible("#first")
    page.keyboard.press("Tab")
    assert page.evaluate(focused) == "first"
    page.keyboard.press("Control+a")
    page.keyboard.insert_text("天地")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#similarity .answer strong")
    assert page.get_attribute("#similarity .answer", "role") == "status"  # told to screen readers
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_a_token_is_asked_for(visit):
    page = visit("locked")
    page.wait_for_selector("#token-form:not([hidden])")
    assert page.evaluate("document.activeElement.id") == "token"
    page.fill("#token", "wrong")
    page.keyboard.press("Enter")
    page.wait_for_selector("#problem:not([hidden])")
    assert page.inner_text("#problem") == "The token is wrong."
    page.fill("#token", TOKEN)
    page.keyboard.press("Enter")
    page.wait_for_selector("#work:not([hidden])")
    assert "%" in answer(page, "similarity")
    assert TOKEN not in page.content() and TOKEN not in page.url


_CONTRAST = """
() => {
  const light = (c) => c <= 10.31 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4;
  const of = (text) => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
    return [0.2126 * light(r) + 0.7152 * light(g) + 0.0722 * light(b), a]; };
  const ground = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const [value, alpha] = of(getComputedStyle(e).backgroundColor);
      if (alpha === 1) return value;
    }
    return 1;
  };
  const found = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.checkVisibility() || e.closest("noscript")) continue;
    const [a, b] = [of(getComputedStyle(e).color)[0], ground(e)];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    found.push([contrast, e.textContent.trim().slice(0, 30)]);
  }
  return found;
}
"""


@pytest.mark.parametrize("viewport, scheme", [(PHONE, "dark"), (DESK, "light")],
                         ids=["phone, dark", "desk, light"])
def test_it_fits_and_can_be_read(visit, tmp_path, viewport, scheme):
    page = visit("pairs", viewport, "zh-CN", color_scheme=scheme, reduced_motion="reduce")
    for panel in ("similarity", "classify", "batch"):
        page.click("#tab-" + panel)
        answer(page, panel)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), panel
        measured = page.evaluate(_CONTRAST)
        assert len(measured) > 10
        assert min(measured)[0] >= 4.5, min(measured)  # WCAG AA
        for element in page.query_selector_all("button, textarea, [role=tab], input[type=radio]"):
            if element.is_visible():
                box = element.bounding_box()
                assert min(box["height"], 44) >= 18 and box["x"] >= 0, element.inner_text()
                assert box["x"] + box["width"] <= viewport["width"]
                assert page.evaluate("e => e.labels === undefined || e.labels.length > 0 "
                                     "|| Boolean(e.textContent.trim())", element)
        page.screenshot(path=str(tmp_path / (panel + ".png")), full_page=True)
        assert os.path.getsize(str(tmp_path / (panel + ".png"))) > 5000


def test_the_description_is_shown(visit, services):
    page = visit("pairs")
    page.goto(services["pairs"][0] + "docs")
    page.wait_for_selector(".card pre")
    text = page.inner_text("main")
    for fragment in ("/v1/similarity", "/v1/models/albert_zh:predict", "curl http://127.0.0.1",
                     "items ≤ 16", "413 The body is too large"):
        assert fragment in text
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
