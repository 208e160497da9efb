"""Tables for the README and pictures beside them."""

from html import escape

HEIGHT, LEFT, BAR = 14, 190, 620


def milliseconds(seconds):
    value = seconds * 1e3
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def table(names, figures):
    """Median milliseconds, and in brackets how many times as long as the first peer it took."""
    lines = ["| " + " | ".join(["", *names]) + " |", "|---" * (len(names) + 1) + "|"]
    for kind, of in figures.items():
        own = of.get(names[0])
        cells = []
        for name in names:
            seconds = of.get(name)
            if seconds is None:
                cells.append("–")
            elif name == names[0] or own is None:
                cells.append(milliseconds(seconds))
            else:
                cells.append(f"{milliseconds(seconds)} ({seconds / own:.1f})")
        lines.append("| " + " | ".join([kind, *cells]) + " |")
    return "\n".join(lines)


def picture(title, names, figures):
    """One bar a peer for each question, on a logarithmic scale from 0.1 ms."""
    from math import log10

    colours = ["#2a6f97", "#61a5c2", "#a9d6e5", "#e07a5f", "#f2cc8f", "#81b29a", "#b8b8b8", "#6d597a"]
    longest = max(seconds for of in figures.values() for seconds in of.values())
    decades = max(log10(longest * 1e4), 1.0)
    place = lambda seconds: BAR * max(log10(max(seconds * 1e4, 1.0)), 0.01) / decades
    parts, y = [], 60
    for number, name in enumerate(names):
        x = LEFT + (number % 4) * 160
        parts.append(f'<rect x="{x}" y="{22 + number // 4 * 16}" width="10" height="10" fill="{colours[number % 8]}"/>')
        parts.append(f'<text x="{x + 14}" y="{31 + number // 4 * 16}">{escape(name)}</text>')
    for kind, of in figures.items():
        top = y
        for number, name in enumerate(names):
            if name in of:
                width = place(of[name])
                parts.append(f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{HEIGHT - 3}" fill="{colours[number % 8]}"/>')
                parts.append(f'<text x="{LEFT + width + 4:.1f}" y="{y + 10}">{milliseconds(of[name])}</text>')
                y += HEIGHT
        parts.append(f'<text x="{LEFT - 8}" y="{(top + y) / 2 + 3:.1f}" text-anchor="end">{escape(kind)}</text>')
        y += 6
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + BAR + 60}" height="{y + 10}" font-family="sans-serif" font-size="11">'
        f'<rect width="100%" height="100%" fill="white"/><text x="8" y="14" font-size="13">{escape(title)}</text>{"".join(parts)}</svg>\n'
    )
