# SPDX-License-Identifier: BSD-3-Clause
"""From samples to the table: medians within one regime of the cache, and the ratio to the peer as last column.

A median is taken over one contender's samples of one point and one regime; samples that others disturbed or during
which the regime flipped stay in the JSON and out of the medians. A row needs at least one contender.
"""

from statistics import median

COLUMNS = (  # heading, width, how a median sample shows it
    ("Mpps", 8, lambda m: None if m["packets_per_s"] is None else f'{m["packets_per_s"] / 1e6:.3f}'),
    ("Gb/s", 8, lambda m: f'{m["bits_per_s"] / 1e9:.2f}'),
    ("ns/pkt", 8, lambda m: None if m["cpu_ns_per_packet"] is None else f'{m["cpu_ns_per_packet"]:.1f}'),
    ("cores", 6, lambda m: f'{m["cpu_switch"]:.2f}'),
)
CELL = sum(width for _, width, _ in COLUMNS)


def medians(samples):
    """{(point, regime): {contender: figures}}, in the order the points were first measured."""
    groups = {}
    for s in samples:
        if s.usable():
            groups.setdefault((s.point, s.regime), {}).setdefault(s.contender, []).append(s)
    return {key: {name: _figures(of) for name, of in group.items()} for key, group in groups.items()}


def _figures(samples):
    def mid(values):
        values = [v for v in values if v is not None]
        return median(values) if values else None
    return {
        "packets_per_s": mid(s.packets_per_s for s in samples),
        "bits_per_s": mid(s.bits_per_s for s in samples),
        "cpu_ns_per_packet": mid(s.cpu_ns_per_packet for s in samples),
        "cpu_switch": mid(s.cpu["switch"] for s in samples),
        "samples": len(samples),
    }


def ratio(figures, ours, peer):
    """Our bits a second over the peer's; None where one is missing."""
    if ours not in figures or peer not in figures:
        return None
    return figures[ours]["bits_per_s"] / figures[peer]["bits_per_s"]


def render(samples, contenders, ours="lasthop", peer="ovs-dpdk"):
    """The table as text."""
    rows = medians(samples)
    lines = [
        f'{"":16}' + "".join(f" |{name:^{CELL}}" for name in contenders) + f" |{ours}/",
        f'{"point":10}{"cache":6}' + "".join(" |" + _heading() for _ in contenders) + f" |{peer}",
    ]
    lines.append("-" * max(map(len, lines)))
    for (point, regime), figures in rows.items():
        cells = "".join(" |" + _cell(figures.get(name)) for name in contenders)
        quotient = ratio(figures, ours, peer)
        lines.append(f'{point:10}{regime:6}{cells} |{"-" if quotient is None else f"{quotient:.2f}":>8}')
    return "\n".join(lines)


def _heading():
    return "".join(f"{name:>{width}}" for name, width, _ in COLUMNS)


def _cell(figures):
    shown = [None if figures is None else show(figures) for _, _, show in COLUMNS]
    return "".join(f'{"-" if s is None else s:>{width}}' for s, (_, width, _) in zip(shown, COLUMNS))
