# SPDX-License-Identifier: BSD-3-Clause
"""The picture: for each point how much better or worse each contender is than Open vSwitch with DPDK, as SVG.

One panel a condition, one group of bars a point. The vertical line at 1 is the peer; a bar to the right is so many times
better, to the left so many times worse, on a logarithmic scale that all panels share, where better means more frames a
second, a shorter round trip or less CPU time. The bars' own figures stand at their ends.
"""

import math
from html import escape

from .conditions import CONDITIONS

PEER = "ovs-dpdk"
COLOURS = {"lasthop": "#1f6f8b", "testpmd-io": "#c08457", "kernel": "#8a8f98", "memcpy": "#c9c2b2"}
MORE_COLOURS = ("#7b9e3f", "#a3527b", "#5b6abf", "#c2a83e", "#4f9d91")
INK, FAINT, RULE = "#1d232b", "#5d6672", "#e3e6ea"
WIDTH, LEFT, RIGHT, MARGIN = 1000, 300, 110, 24
BAR, GAP, GROUP = 14, 3, 12
FONT = 'font-family="Helvetica, Arial, sans-serif"'


def _rows(medians):
    """{condition: [(point, regime, figures)]} of what has both the peer and somebody else: the regime best measured."""
    best = {}
    for (point, regime), figures in medians.items():
        if PEER not in figures or len(figures) < 2 or not figures[PEER]["figure"]:
            continue
        weight = (len(figures), sum(f["samples"] for f in figures.values()))
        if point not in best or weight > best[point][0]:
            best[point] = (weight, regime, figures)
    rows = {}
    for point, (_, regime, figures) in best.items():
        condition, _, name = point.partition("/")
        rows.setdefault(condition, []).append((name, regime, figures))
    return {c: rows[c] for c in CONDITIONS if c in rows}


def _better(figures, name):
    """How many times better than the peer."""
    ours, peer = figures[name]["figure"], figures[PEER]["figure"]
    if figures[name]["kind"] == "rate":
        return ours / peer if ours else None
    return peer / ours if ours else None


def _label(figure):
    if figure["kind"] == "rtt":
        return f'{figure["figure"] / 1e3:,.3g} µs' if figure["figure"] < 1e6 else f'{figure["figure"] / 1e6:.3g} ms'
    if figure["kind"] == "cpu":
        return f'{figure["figure"] * 100:.3g} % of a core'
    if figure["packets_per_s"] is None or figure["bits_per_s"] / figure["packets_per_s"] > 8 * 9000:
        return f'{figure["bits_per_s"] / 1e9:.3g} Gb/s'
    return f'{figure["figure"] / 1e6:.3g} Mpps'


def _times(value):
    return f"{value:.2g}×" if value < 9.95 else f"{value:.0f}×"


class _Scale:
    """From a ratio to a place: logarithmic, as wide as what is shown, at least from 1/2 to 4."""

    def __init__(self, values):
        self.low = min(-1, math.floor(math.log2(min(values, default=1))))
        self.high = max(2, math.ceil(math.log2(max(values, default=1))))

    def at(self, ratio):
        span = WIDTH - RIGHT - LEFT
        return LEFT + (math.log2(ratio) - self.low) / (self.high - self.low) * span

    def ticks(self):
        step = 1 if self.high - self.low <= 9 else 2
        return [2.0 ** e for e in range(self.low, self.high + 1) if e % step == 0]


def _text(x, y, text, size=12, anchor="start", colour=INK, more=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}" {FONT} {more}>' \
           f"{escape(text)}</text>"


def _tick_name(value):
    return f"{value:.0f}×" if value >= 1 else f"1/{1 / value:.0f}"


def _colours(rows):
    names = dict.fromkeys(n for group in rows.values() for _, _, figures in group for n in figures if n != PEER)
    spare = iter(MORE_COLOURS * len(names))
    return {name: COLOURS.get(name) or next(spare) for name in names}


def _group(out, y, name, regime, figures, colours, scale):
    """The bars of one point. Returns where the next one begins."""
    shown = [n for n in colours if n in figures and _better(figures, n)]
    height = max(len(shown) * (BAR + GAP), 2 * BAR + GAP)
    out.append(_text(LEFT - 14, y + height / 2 - 2, f"{name}", 13, "end", INK, 'font-weight="bold"'))
    out.append(_text(LEFT - 14, y + height / 2 + 12, f"{regime}; {PEER}: {_label(figures[PEER])}", 10.5, "end", FAINT))
    for index, contender in enumerate(shown):
        ratio, top = _better(figures, contender), y + index * (BAR + GAP)
        start, end = sorted((scale.at(1), scale.at(ratio)))
        out.append(f'<rect x="{start:.1f}" y="{top:.1f}" width="{max(end - start, 1.5):.1f}" height="{BAR}" rx="1.5" '
                   f'fill="{colours[contender]}"/>')
        out.append(_text(max(end, scale.at(1)) + 6, top + BAR - 3, f"{_times(ratio)}  {_label(figures[contender])}", 11,
                         colour=INK if contender == "lasthop" else FAINT))
    return y + height + GROUP


def _panel(out, y, condition, rows, colours, scale):
    out.append(_text(MARGIN, y, condition, 16, more='font-weight="bold"'))
    out.append(_text(MARGIN, y + 17, CONDITIONS[condition].text, 11.5, colour=FAINT))
    top, bars = y + 46, []
    y = top
    for name, regime, figures in rows:
        y = _group(bars, y, name, regime, figures, colours, scale)
    bottom = y - GROUP + 4
    for tick in scale.ticks():
        x, one = scale.at(tick), tick == 1
        out.append(f'<line x1="{x:.1f}" y1="{top - 6}" x2="{x:.1f}" y2="{bottom:.1f}" stroke="{FAINT if one else RULE}" '
                   f'stroke-width="{1.5 if one else 1}"/>')
        out.append(_text(x, top - 10, _tick_name(tick), 10.5, "middle", INK if one else FAINT))
    out += bars
    return bottom + 38


def draw(medians):
    """The picture of table.medians()."""
    rows = _rows(medians)
    colours = _colours(rows)
    values = [b for group in rows.values() for _, _, figures in group for n in colours if n in figures
              for b in [_better(figures, n)] if b]
    scale, out = _Scale(values), []
    out.append(_text(MARGIN, 36, f"How many times better than {PEER}", 20, more='font-weight="bold"'))
    out.append(_text(MARGIN, 56, "Medians of one run and one cache regime. More frames or bits a second, shorter round "
                     "trips, less CPU time are better: to the right.", 11.5, colour=FAINT))
    x = MARGIN
    for name, colour in colours.items():
        out.append(f'<rect x="{x}" y="70" width="12" height="12" rx="1.5" fill="{colour}"/>')
        out.append(_text(x + 17, 80, name, 12))
        x += 40 + 7.2 * len(name)
    y = 122
    for condition, group in rows.items():
        y = _panel(out, y, condition, group, colours, scale)
    if not rows:
        out.append(_text(MARGIN, y, f"Nothing was measured with both {PEER} and another contender.", 13))
        y += 30
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y:.0f}" width="{WIDTH}" height="{y:.0f}">\n' \
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n' + "\n".join(out) + "\n</svg>\n"
