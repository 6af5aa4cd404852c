"""Pictures as PNG files: curves of a training, confusion matrices, numbers of parameters.

Draws with matplotlib, which is loaded at the first picture. Where it is not installed, every
function here says so (once) and returns False: no run fails for want of a picture.

Dimension letter: C classes.
"""

import collections
import contextlib
import io
import logging
import math

import numpy as np

import console
import files
import interruption

BLUE, ORANGE, GREY, INK = "#2b6cb0", "#dd6b20", "#718096", "#2d3748"
STYLE = {
    "font.size": 9, "text.color": INK, "axes.labelcolor": INK,
    "axes.edgecolor": "#cbd5e0", "axes.linewidth": 0.8, "axes.axisbelow": True,
    "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10,
    "axes.titleweight": "bold", "axes.titlelocation": "left", "grid.color": "#edf2f7",
    "grid.linewidth": 0.8, "figure.constrained_layout.h_pad": 0.08,
    "figure.constrained_layout.w_pad": 0.08,
    "xtick.color": GREY, "ytick.color": GREY, "xtick.labelsize": 8, "ytick.labelsize": 8,
    "xtick.major.size": 0, "ytick.major.size": 0, "legend.frameon": False, "legend.fontsize": 8,
    "lines.linewidth": 1.3, "lines.markersize": 4, "figure.dpi": 120, "savefig.dpi": 120,
    "figure.facecolor": "white",
}

# Fonts that hold Chinese, as the systems name them; the first that has all characters is used.
CHINESE_FONTS = (
    "Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "Source Han Sans CN",
    "Noto Sans CJK JP", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Microsoft YaHei", "SimHei",
    "PingFang SC", "Hiragino Sans GB", "STHeiti", "Heiti TC", "Arial Unicode MS",
    "Droid Sans Fallback", "AR PL UMing CN", "AR PL UKai CN")

EVALUATION = "eval "     # tags that begin so belong into the panel of the tag without it
MOST_POINTS = 2000       # of a curve; more are thinned
MOST_NUMBERED_CELLS = 20  # classes; the cells of larger confusion matrices hold no numbers
MOST_NAMED_CLASSES = 40

_missing_was_said = False


# ---------------------------------------------------------------------------------------------
# What all pictures need
# ---------------------------------------------------------------------------------------------

def is_available():
    """Tells whether matplotlib is installed; says once when it is not."""
    global _missing_was_said
    # Its own remarks (a font cache is being built, no folder for it) are none of the reader's.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        if not _missing_was_said:
            console.say("no picture drawn: matplotlib is not installed (bash env.sh installs it)")
        _missing_was_said = True
        return False
    return True


@contextlib.contextmanager
def canvas(path, width, height, font="DejaVu Sans"):
    """Yields a figure of width x height inches, written to `path` at the end of the block.

    The figure is made without pyplot: no window, no display, nothing left behind.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # pictures look the same whatever the user's matplotlibrc says
        matplotlib.rcParams.update(STYLE, **{"font.family": font})
        figure = Figure(figsize=(width, height), constrained_layout=True)
        drawn = FigureCanvasAgg(figure)
        yield figure
        picture = io.BytesIO()
        drawn.print_png(picture, metadata={"Software": None})
    with files.atomic_write(path) as stream:
        stream.write(picture.getvalue())


def _font_for(texts):
    """Returns the name of a font that has all characters of the texts, or None."""
    needed = set(map(ord, "".join(texts)))
    for name, path in _candidate_fonts():
        if needed <= _characters(path):
            return name
    return None


def spell(texts):
    """Returns (a font's name, the texts to draw with it): "?" for what no font here has."""
    texts = [text.replace("$", r"\$") for text in texts]  # matplotlib sets formulas between two $
    font = _font_for(texts)
    if font is None:
        font, path = next(_candidate_fonts())
        drawable = _characters(path)
        texts = ["".join(char if ord(char) in drawable else "?" for char in text)
                 for text in texts]
    return font, texts


def _candidate_fonts():
    """Yields (name, file) of matplotlib's own font, then of installed ones that hold Chinese."""
    from matplotlib import font_manager

    manager = font_manager.fontManager
    yield "DejaVu Sans", font_manager.findfont("DejaVu Sans")
    for is_scanned in (False, True):
        if is_scanned:
            _add_new_fonts(manager)
        found = {font.name: font.fname for font in manager.ttflist}
        for name in CHINESE_FONTS:
            if name in found:
                yield name, found[name]


def _add_new_fonts(manager):
    """Adds fonts that were installed after matplotlib wrote down which ones there are."""
    from matplotlib import font_manager

    known = {font.fname for font in manager.ttflist}
    for path in font_manager.findSystemFonts():
        if path not in known:
            with contextlib.suppress(OSError, RuntimeError, ValueError):  # not a font to draw with
                manager.addfont(path)


def _characters(path):
    """Returns the set of code points that can be drawn with a font file."""
    from matplotlib.ft2font import FT2Font

    try:
        return set(FT2Font(path).get_charmap()).union(map(ord, "\n"))
    except (OSError, RuntimeError):  # listed, but removed since or damaged
        return set()


# ---------------------------------------------------------------------------------------------
# Curves
# ---------------------------------------------------------------------------------------------

@interruption.deferred()
def curves(series, path, title):
    """Draws how scalars went, a panel for each, all over the same steps.

    Args:
        series: ordered dict {tag: [(step, value), ...]}, steps ascending. A tag "eval X" shares
            the panel of "X".
        path: PNG file to write.
        title: what the curves are of.

    Returns:
        True if the picture was drawn.
    """
    panels = group_panels(series)
    if not panels or not is_available():
        return False
    columns = 1 if len(panels) == 1 else 2 if len(panels) <= 4 else 3
    rows = -(-len(panels) // columns)
    font, (title, *names) = spell([title] + list(panels))
    with canvas(path, 4.2 * columns, 2.5 * rows + 0.4, font) as figure:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        steps = [step for points in series.values() for step, _ in points]
        for place, (name, (trained, evaluated)) in enumerate(zip(names, panels.values())):
            axes = figure.add_subplot(rows, columns, place + 1)
            _draw_panel(axes, name, trained, evaluated)
            _set_steps(axes, min(steps), max(steps),
                       is_lowest=place + columns >= len(panels))
    return True


def group_panels(series):
    """Returns an ordered dict {panel: (points of training, points of evaluation)}."""
    panels = collections.OrderedDict()
    for tag, points in series.items():
        is_evaluation = tag.startswith(EVALUATION)
        name = tag[len(EVALUATION):] if is_evaluation else tag
        if points:
            panels.setdefault(name, ([], []))[int(is_evaluation)].extend(points)
    return panels


def thin(points, most=MOST_POINTS):
    """Leaves at most `most` points of a curve: of each stretch of it the lowest and the highest.

    So peaks stay, and nothing is averaged. First and last point stay too.
    """
    if len(points) <= most:
        return points
    kept = {0, len(points) - 1}
    bounds = np.linspace(0, len(points), most // 2).astype(int)
    for start, end in zip(bounds, bounds[1:]):
        places = [place for place in range(start, end) if math.isfinite(points[place][1])]
        if places:
            kept.add(min(places, key=lambda place: points[place][1]))
            kept.add(max(places, key=lambda place: points[place][1]))
    return [points[place] for place in sorted(kept)]


def trend(points):
    """Returns what a noisy curve does on the whole: a running mean over a 25th of it, or [].

    [] where there are few points or hardly any noise: the curve itself shows it then. Values that
    are not finite are left out.
    """
    steps, values = (np.array(some, np.float64) for some in zip(*points))
    finite = np.isfinite(values)
    steps, values = steps[finite], values[finite]
    if len(values) < 100 or np.abs(np.diff(values)).mean() <= 0.03 * np.ptp(values):
        return []
    reach = len(values) // 50
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    first, end = np.maximum(places - reach, 0), np.minimum(places + reach + 1, len(values))
    return list(zip(steps, (sums[end] - sums[first]) / (end - first)))


def _draw_panel(axes, name, trained, evaluated):
    axes.set_title(name)
    axes.grid(True, axis="y")
    for points, colour, label in ((trained, BLUE, "training"), (evaluated, ORANGE, "evaluation")):
        if not points:
            continue
        steps, values = zip(*thin(points))
        few, mean = len(points) <= 30, trend(points)
        axes.plot(steps, [value if math.isfinite(value) else math.nan for value in values],
                  color=colour, label=None if mean else label, marker="o" if few else None,
                  linewidth=1.3 if few else 0.7, alpha=0.3 if mean else 1.0)
        if mean:
            axes.plot(*zip(*thin(mean)), color=colour, label=label, linewidth=1.6)
    if evaluated:
        axes.legend(loc="best", handlelength=1.4)


def _set_steps(axes, first, last, is_lowest):
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    margin = max(0.03 * (last - first), 1)
    axes.set_xlim(first - margin, last + margin)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: _short_count(step)))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(
        lambda value, _: _short_value(value, max(map(abs, axes.get_ylim())))))
    axes.margins(y=0.08)
    if is_lowest:
        axes.set_xlabel("step")
    else:
        axes.tick_params(labelbottom=False)


def _short_count(number):
    """Formats a count: 950, 12k, 12.5k, 1.25M."""
    for size, unit in ((1e6, "M"), (1e4, "k")):
        if abs(number) >= size:
            return "%.4g%s" % (number / (1e3 if unit == "k" else size), unit)
    return "%.4g" % number


def _short_value(value, largest):
    """Formats a value of an axis whose values go up to `largest`: 0.25, 12.5k, 1.5e-4."""
    if largest >= 1e4:
        return _short_count(value)
    if largest >= 0.01 or not value:
        return "%.6g" % value
    mantissa, exponent = ("%.3e" % value).split("e")
    return "%ge%d" % (float(mantissa), int(exponent))


# ---------------------------------------------------------------------------------------------
# Confusion matrix
# ---------------------------------------------------------------------------------------------

@interruption.deferred()
def confusion_matrix(matrix, labels, path, title=None):
    """Draws a confusion matrix: dark where much of a true class was predicted as another one.

    Args:
        matrix: int array [C, C] of metrics.confusion, a row for each true class.
        labels: C names. Where no installed font has their characters, the classes are numbered.
        path: PNG file to write.
        title: line above; default: how many predictions are right.

    Returns:
        True if the picture was drawn.
    """
    if not is_available():
        return False
    matrix = np.asarray(matrix)
    title = title or "%s of %s predictions are right" % (
        format(int(matrix.trace()), ","), format(int(matrix.sum()), ","))
    labels, note = [str(label) for label in labels], "colour: share of the true class"
    if _font_for(labels) is None:
        labels = [str(number) for number in range(1, len(labels) + 1)]
        note += ("; classes are numbered in the task's order,\n"
                 "because no font installed here can write their names")
    font, (title, *labels) = spell([title] + labels)
    size = min(2.6 + 0.42 * max(len(labels), 4), 11.0)
    room = 0.06 * max(map(console.width, labels))
    with canvas(path, size + room + 0.6, size + room, font) as figure:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        axes = figure.add_subplot(1, 1, 1)
        _draw_cells(figure, axes, matrix)
        _name_classes(axes, labels)
        axes.set_xlabel("predicted\n\n" + note)
        axes.set_ylabel("truth")
    return True


def _draw_cells(figure, axes, matrix):
    from matplotlib.colors import PowerNorm
    from matplotlib.ticker import PercentFormatter

    count = len(matrix)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    # Over many classes mistakes spread thin: the root makes small shares visible.
    norm = PowerNorm(1.0 if count <= MOST_NUMBERED_CELLS else 0.5, vmin=0.0, vmax=1.0)
    image = axes.imshow(shares, cmap="Blues", norm=norm, interpolation="nearest")
    for spine in axes.spines.values():
        spine.set_visible(True)
    bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02, aspect=40,
                          ticks=[0.0, 0.25, 0.5, 0.75, 1.0], format=PercentFormatter(1.0))
    bar.outline.set_visible(False)
    if count > MOST_NUMBERED_CELLS:
        return
    longest = len(str(matrix.max()))
    for (row, column), number in np.ndenumerate(matrix):
        axes.text(column, row, str(number), ha="center", va="center",
                  fontsize=8 if longest <= 4 else 6,
                  color="white" if shares[row, column] > 0.55 else INK if number else "#cbd5e0")


def _name_classes(axes, labels):
    count = len(labels)
    every = 1 if count <= MOST_NAMED_CLASSES else 5
    places = list(range(0, count, every))
    names = [labels[place] for place in places]
    size = 8 if count <= MOST_NUMBERED_CELLS else 6
    turned = 90 if max(map(console.width, names)) > 3 else 0
    axes.set_xticks(places)
    axes.set_xticklabels(names, rotation=turned, fontsize=size)
    axes.set_yticks(places)
    axes.set_yticklabels(names, fontsize=size)


# ---------------------------------------------------------------------------------------------
# Numbers of parameters
# ---------------------------------------------------------------------------------------------

@interruption.deferred()
def parameters(rows, path):
    """Draws the number of parameters of configurations with shared and with unshared layers.

    Args:
        rows: list of (configuration, parameters when shared, parameters when unshared).
        path: PNG file to write.

    Returns:
        True if the picture was drawn.
    """
    if not is_available():
        return False
    font, names = spell([str(row[0]) for row in rows])
    with canvas(path, max(6.0, 1.6 * len(rows) + 1.4), 4.0, font) as figure:
        figure.suptitle("Parameters by configuration", x=0.01, ha="left", fontsize=11)
        axes = figure.add_subplot(1, 1, 1)
        for offset, colour, label, column in ((-0.2, BLUE, "layers share parameters (ALBERT)", 1),
                                              (0.2, "#a0aec0", "each layer has its own", 2)):
            counts = [row[column] for row in rows]
            places = [place + offset for place in range(len(rows))]
            axes.bar(places, counts, width=0.38, color=colour, label=label)
            for place, count in zip(places, counts):
                axes.annotate(_millions(count), (place, count), (0, 2), ha="center", va="bottom",
                              textcoords="offset points", fontsize=8)
        axes.set_yscale("log")
        axes.set_ylim(min(min(row[1:]) for row in rows) / 3.0,
                      max(max(row[1:]) for row in rows) * 4.0)
        axes.grid(True, axis="y")
        axes.minorticks_off()
        axes.set_ylabel("parameters (log scale)")
        axes.set_xticks(range(len(rows)))
        axes.set_xticklabels(names, fontsize=9)
        axes.legend(loc="upper left", ncol=2)
    return True


def _millions(count):
    return format(count / 1e6, ".1f" if count < 1e9 else ",.0f") + " M"
