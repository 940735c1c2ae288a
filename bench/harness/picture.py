# SPDX-License-Identifier: BSD-3-Clause
"""The picture: for each point how much better or worse each contender is than Open vSwitch with DPDK, as SVG.

Where that did not take part (--set ablation) lasthop itself is the measure.

One panel a condition, one group of bars a point. The vertical line at 1 is the peer; a bar to the right is so many times
better, to the left so many times worse, on a logarithmic scale that all panels share, where better means more frames a
second, a shorter round trip or less CPU time. The bars' own figures stand at their ends; a bar that would leave the
scale ends in an arrow.
"""

import math
from html import escape

from .conditions import CONDITIONS

PEERS = ("ovs-dpdk", "lasthop")
COLOURS = {"lasthop": "#1f6f8b", "testpmd-io": "#c08457", "kernel": "#8a8f98", "memcpy": "#c9c2b2"}
MORE_COLOURS = ("#7b9e3f", "#a3527b", "#5b6abf", "#c2a83e", "#4f9d91")
INK, FAINT, RULE = "#1d232b", "#5d6672", "#e3e6ea"
WIDTH, LEFT, RIGHT, MARGIN = 1000, 300, 170, 24
BAR, GAP, GROUP = 14, 3, 14
LOWEST, HIGHEST = -4, 6  # powers of two: the scale goes no further
ENDLESS = 1e9            # times better than the peer, where we used nothing
FONT = 'font-family="Helvetica, Arial, sans-serif"'


def _peer(medians):
    """Whom the others are compared with."""
    return next((p for p in PEERS if any(p in figures for figures in medians.values())), PEERS[0])


def _rows(medians, peer):
    """{condition: [(point, regime, figures)]} of what has both the peer and somebody else: the regime best measured."""
    best = {}
    for (point, regime), figures in medians.items():
        if peer not in figures or len(figures) < 2 or not figures[peer]["figure"]:
            continue
        weight = ("lasthop" in figures, len(figures), sum(f["samples"] for f in figures.values()))
        if point not in best or weight > best[point][0]:
            best[point] = (weight, regime, figures)
    rows = {}
    for point, (_, regime, figures) in best.items():
        condition, _, name = point.partition("/")
        rows.setdefault(condition, []).append((name, regime, figures))
    return {c: rows[c] for c in CONDITIONS if c in rows}


def _better(figures, name, peer):
    """How many times better than the peer."""
    ours, theirs = figures[name]["figure"], figures[peer]["figure"]
    if figures[name]["kind"] == "rate":
        return ours / theirs if ours else None
    return theirs / ours if ours else ENDLESS


def _label(figure):
    if figure["kind"] == "rtt":
        return f'{figure["figure"] / 1e3:,.3g} µs' if figure["figure"] < 1e6 else f'{figure["figure"] / 1e6:.3g} ms'
    if figure["kind"] == "cpu":
        return f'{figure["figure"] * 100:.3g} % CPU'
    if figure["packets_per_s"] is None or figure["bits_per_s"] / figure["packets_per_s"] > 8 * 9000:
        return f'{figure["bits_per_s"] / 1e9:.3g} Gb/s'
    return f'{figure["figure"] / 1e6:.3g} Mpps'


def _times(value):
    if value >= ENDLESS:
        return "∞"
    if value < 0.1:
        return f"1/{1 / value:.0f}"
    return f"{value:.2f}×" if value < 0.995 else f"{value:.1f}×" if value < 9.95 else f"{value:.0f}×"


class _Scale:
    """From a ratio to a place: logarithmic, as wide as what is shown, at least from 1/2 to 4."""

    def __init__(self, values):
        self.low = max(LOWEST, min(-1, math.floor(math.log2(min(values, default=1)))))
        self.high = min(HIGHEST, max(2, math.ceil(math.log2(max(values, default=1)))))

    def at(self, ratio):
        span = WIDTH - RIGHT - LEFT
        power = min(max(math.log2(ratio), self.low), self.high)
        return LEFT + (power - self.low) / (self.high - self.low) * span

    def clips(self, ratio):
        """-1, 0 or 1: on which side it would leave the scale."""
        power = math.log2(ratio)
        return (power > self.high) - (power < self.low)

    def ticks(self):
        step = 1 if self.high - self.low <= 9 else 2
        return [2.0 ** e for e in range(self.low, self.high + 1) if e % step == 0]


def _text(x, y, text, size=12, anchor="start", colour=INK, more=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}" {FONT} {more}>' \
           f"{escape(text)}</text>"


def _tick_name(value):
    return f"{value:.0f}×" if value >= 1 else f"1/{1 / value:.0f}"


def _colours(rows, peer):
    names = dict.fromkeys(n for group in rows.values() for _, _, figures in group for n in figures if n != peer)
    spare = iter(MORE_COLOURS * len(names))
    return {name: COLOURS.get(name) or next(spare) for name in names}


def _group(out, y, row, peer, colours, scale):
    """The bars of one point. Returns where the next one begins."""
    name, regime, figures = row
    shown = [n for n in colours if n in figures and _better(figures, n, peer)]
    height = max(len(shown) * (BAR + GAP), 2 * BAR + GAP)
    out.append(_text(LEFT - 14, y + height / 2 - 2, f"{name}", 13, "end", INK, 'font-weight="bold"'))
    out.append(_text(LEFT - 14, y + height / 2 + 12, f"{regime}; {peer}: {_label(figures[peer])}", 10.5, "end", FAINT))
    for index, contender in enumerate(shown):
        ratio, top = _better(figures, contender, peer), y + index * (BAR + GAP)
        start, end = sorted((scale.at(1), scale.at(ratio)))
        out.append(f'<rect x="{start:.1f}" y="{top:.1f}" width="{max(end - start, 1.5):.1f}" height="{BAR}" rx="1.5" '
                   f'fill="{colours[contender]}"/>')
        side = scale.clips(ratio)
        if side:
            tip = (end if side > 0 else start) + 7 * side
            out.append(f'<path d="M{tip - 7 * side:.1f} {top} L{tip:.1f} {top + BAR / 2} L{tip - 7 * side:.1f} {top + BAR} Z" '
                       f'fill="{colours[contender]}"/>')
        out.append(_text(max(end, scale.at(1)) + (14 if side > 0 else 6), top + BAR - 3,
                         f"{_times(ratio)} · {_label(figures[contender])}", 11,
                         colour=INK if contender == "lasthop" else FAINT))
    return y + height + GROUP


def _panel(out, y, condition, rows, peer, colours, scale):
    out.append(_text(MARGIN, y, condition, 16, more='font-weight="bold"'))
    out.append(_text(MARGIN, y + 17, CONDITIONS[condition].text, 11.5, colour=FAINT))
    top, bars = y + 46, []
    y = top
    for row in rows:
        y = _group(bars, y, row, peer, colours, scale)
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
    peer = _peer(medians)
    rows = _rows(medians, peer)
    colours = _colours(rows, peer)
    values = [b for group in rows.values() for _, _, figures in group for n in colours if n in figures
              for b in [_better(figures, n, peer)] if b]
    scale, out = _Scale(values), []
    out.append(_text(MARGIN, 36, f"How many times better than {peer}", 20, more='font-weight="bold"'))
    out.append(_text(MARGIN, 56, "Medians of one run and one cache regime. More frames or bits a second, shorter round "
                     "trips, less CPU time are better: to the right.", 11.5, colour=FAINT))
    x = MARGIN
    for name, colour in colours.items():
        out.append(f'<rect x="{x}" y="70" width="12" height="12" rx="1.5" fill="{colour}"/>')
        out.append(_text(x + 17, 80, name, 12))
        x += 40 + 7.2 * len(name)
    y = 122
    for condition, group in rows.items():
        y = _panel(out, y, condition, group, peer, colours, scale)
    if not rows:
        out.append(_text(MARGIN, y, f"Nothing was measured with both {peer} and another contender.", 13))
        y += 30
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y:.0f}" width="{WIDTH}" height="{y:.0f}">\n' \
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n' + "\n".join(out) + "\n</svg>\n"
