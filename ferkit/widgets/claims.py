"""Can this number be true? A printed accuracy, a number of test images, a printed loss."""

from decimal import Decimal, InvalidOperation

import ipywidgets

from ferkit import plots
from ferkit.papers.arithmetic import minimal_cross_entropy, reachable
from ferkit.plots.house import COLOURS, new_figure, styled
from ferkit.widgets.controls import explore


@styled
def claim_figure(percent: str, n: int, loss: str = "") -> plots.Figure:
    """Draw which numbers k of correct answers out of n would be printed as `percent`,
    and the least cross entropy they allow.

    Args:
        percent: as printed, "79.79"; the decimals count.
        n: number of test images.
        loss: a printed mean cross entropy in nats to compare, or "".

    """
    printed = _number(percent, "a percentage as printed, such as 79.79")
    decimals = max(0, -int(printed.as_tuple().exponent))
    hits = reachable(percent.strip(), n, decimals)
    unit, value = 10.0**-decimals, float(printed)
    least = minimal_cross_entropy(value / 100)
    figure, axes = new_figure(1, 1, (7.2, 2.5))
    ax = axes[0, 0]
    ax.axvspan(value - unit / 2, value + unit / 2, color=COLOURS[0], alpha=0.25, linewidth=0, label="rounded to it")
    ax.axvspan(value, value + unit, ymax=0.45, color=COLOURS[4], alpha=0.35, linewidth=0, label="cut off to it")
    middle = round(value * n / 100)
    reach = max(2, min(8, round(unit * n / 100) + 1))
    fits = {k for k, _ in hits}
    for k in range(max(0, middle - reach), min(n, middle + reach) + 1):
        ax.plot(100 * k / n, 0.5, "o", color=COLOURS[1] if k in fits else "#909090")
        ax.annotate(f"{k}", (100 * k / n, 0.5), xytext=(0, 6), textcoords="offset points", ha="center", fontsize=9)
    ax.set(ylim=(0, 1), yticks=[], xlabel=f"100 · k / {n:,}")
    ax.ticklabel_format(axis="x", useOffset=False)
    ax.spines["left"].set_visible(False)
    figure.legend(loc="outside right upper", fontsize=9)
    ways = []
    for how in ("rounded", "truncated"):
        ks = [k for k, way in hits if way == how]
        ways += [f"k = {ks[0]:,}{f' to {ks[-1]:,}' if len(ks) > 1 else ''} ({how})"] if ks else []
    title = f"{percent.strip()} % of {n:,}: {', '.join(ways) or 'no k gives this number'}"
    title += f"\nWrong answers cost ln 2 at least, so the mean cross entropy is at least {least:.4f} nats"
    if loss.strip():
        stated = float(_number(loss, "a mean cross entropy in nats, such as 0.12"))
        title += f": {stated:g} is {'possible' if stated >= least else 'too small'}"
    ax.set_title(title, fontsize=9.5)
    return figure


def claim_checker(*, percent: str, n: int, loss: str = "") -> None:
    """Type an accuracy and a number of test images, and see whether they can belong together (see `claim_figure`)."""
    explore(
        claim_figure,
        percent=ipywidgets.Text(percent, description="accuracy in %"),
        n=ipywidgets.BoundedIntText(n, min=1, max=10_000_000, description="test images"),
        loss=ipywidgets.Text(loss, description="mean cross entropy", placeholder="nats, or empty"),
    )


def _number(text: str, expected: str) -> Decimal:
    try:
        number = Decimal(text.strip())
    except InvalidOperation:
        number = Decimal("nan")
    if not number.is_finite():
        raise ValueError(f"expected {expected}, found {text!r}")
    return number
