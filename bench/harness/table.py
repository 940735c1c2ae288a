# SPDX-License-Identifier: BSD-3-Clause
"""From samples to the table: medians within one regime of the cache, and lasthop's ratio to each as last column.

A median is taken over one contender's samples of one point and one regime; samples that others disturbed or during
which the regime flipped stay in the JSON and out of the medians.
"""

from statistics import median

from .conditions import CONDITIONS

OURS = "lasthop"
HEADINGS = {"rate": "frames", "rtt": "round trips (less is better)", "cpu": "CPU time (less is better)"}


def medians(samples):
    """{(point, regime): {contender: figures}}, in the order the points were first measured."""
    groups = {}
    for s in samples:
        if s.accepted:
            groups.setdefault((s.point, s.regime), {}).setdefault(s.contender, []).append(s)
    return {key: {name: _figures(of) for name, of in group.items()} for key, group in groups.items()}


def _figures(samples):
    def mid(values):
        values = [v for v in values if v is not None]
        return median(values) if values else None
    rtt = [s.rtt_ns for s in samples if s.rtt_ns]
    return {
        "kind": samples[0].kind,
        "figure": mid(s.figure for s in samples),
        "packets_per_s": mid(s.packets_per_s for s in samples),
        "bits_per_s": mid(s.bits_per_s for s in samples),
        "rtt_ns": {name: mid(r[name] for r in rtt) for name in ("median", "p99", "p99.9")} if rtt else None,
        "cpu_ns_per_packet": mid(s.cpu_ns_per_packet for s in samples),
        "cpu_ns_per_gigabyte": mid(s.cpu_ns_per_gigabyte for s in samples),
        "machine_ns_per_packet": mid(s.machine_ns_per_packet for s in samples),
        "machine_ns_per_gigabyte": mid(s.machine_ns_per_gigabyte for s in samples),
        "cpu_switch": mid(s.cpu["switch"] for s in samples),
        "loss": mid(s.loss for s in samples),
        "samples": len(samples),
    }


def ratio(figures, ours, peer):
    """Our figure over the peer's; None where one is missing."""
    if ours not in figures or peer not in figures or not figures[peer]["figure"]:
        return None
    return figures[ours]["figure"] / figures[peer]["figure"]


COLUMNS = (  # heading, width, how a median shows it
    ("Mpps", 9, lambda m: m["packets_per_s"] and f'{m["packets_per_s"] / 1e6:.3f}'),
    ("Gb/s", 8, lambda m: m["bits_per_s"] and f'{m["bits_per_s"] / 1e9:.2f}'),
    ("ns/pkt", 8, lambda m: m["cpu_ns_per_packet"] and f'{m["cpu_ns_per_packet"]:.1f}'),
    ("ms/GB", 8, lambda m: m["cpu_ns_per_gigabyte"] and f'{m["cpu_ns_per_gigabyte"] / 1e6:.1f}'),
    ("cores", 8, lambda m: f'{m["cpu_switch"]:.2f}' if m["cpu_switch"] >= 0.1 else f'{m["cpu_switch"]:.5f}'),
    ("lost", 7, lambda m: f'{m["loss"]:.1%}' if m["loss"] >= 0.0005 else ""),
)
# Where the kernel works for the switch on others' time, the whole machine's says what it costs.
DEVICE_COLUMNS = (
    *COLUMNS[:4],
    ("all/pkt", 9, lambda m: m["machine_ns_per_packet"] and f'{m["machine_ns_per_packet"]:.0f}'),
    ("all/GB", 8, lambda m: m["machine_ns_per_gigabyte"] and f'{m["machine_ns_per_gigabyte"] / 1e6:.0f}'),
    *COLUMNS[4:],
)
RTT_COLUMNS = (
    ("median µs", 10, lambda m: f'{m["rtt_ns"]["median"] / 1e3:.2f}'),
    ("p99", 9, lambda m: f'{m["rtt_ns"]["p99"] / 1e3:.2f}'),
    ("p99.9", 9, lambda m: f'{m["rtt_ns"]["p99.9"] / 1e3:.2f}'),
    COLUMNS[0], COLUMNS[4],
)


def render(samples):
    """The table as text: a block for each condition and kind of figure."""
    blocks = {}
    for (point, regime), figures in medians(samples).items():
        kind = next(iter(figures.values()))["kind"]
        blocks.setdefault((point.partition("/")[0], kind), []).append((point.partition("/")[2], regime, figures))
    return "\n\n".join(_block(condition, kind, rows) for (condition, kind), rows in sorted(
        blocks.items(), key=lambda item: (list(CONDITIONS).index(item[0][0]), list(HEADINGS).index(item[0][1]))))


def _block(condition, kind, rows):
    columns = RTT_COLUMNS if kind == "rtt" else DEVICE_COLUMNS if condition.startswith("nic") else COLUMNS
    head = f'{"point":17}{"cache":6}{"contender":31}' + "".join(f"{name:>{width}}" for name, width, _ in columns) + \
        f'{"n":>3}{OURS + "/it":>12}'
    lines = [f"{condition}, {HEADINGS[kind]}: {CONDITIONS[condition].text}", head, "-" * len(head)]
    for point, regime, figures in rows:
        for index, (name, figure) in enumerate(figures.items()):
            quotient = ratio(figures, OURS, name)
            cells = "".join(f'{show(figure) or "":>{width}}' for _, width, show in columns)
            lines.append(f'{point if not index else "":17}{regime if not index else "":6}{name:31}{cells}'
                         f'{figure["samples"]:>3}' + ("" if quotient is None or name == OURS else f"{quotient:12.2f}"))
    return "\n".join(lines)
