"""What all plots share: colours that colour-blind readers tell apart, a figure in one style, and its PNG."""

import io

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito's
GRAY = "#6E6E6E"
DPI = 144


def new_figure(width: float = 4, height: float = 3.2, rows: int = 1, columns: int = 1, **more):
    """A figure of `rows` x `columns` axes, in inches; 4 wide it is legible on a telephone too. Returns (figure, axes
    [rows, columns])."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **more)
    for ax in axes.flat:
        ax.tick_params(labelsize=9)
        ax.grid(alpha=0.3)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
    return figure, axes


def logarithmic(ax) -> None:
    """A logarithmic axis of x with plain numbers that do not run into each other."""
    from matplotlib.ticker import LogLocator, NullFormatter

    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())


def png(figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI)
    return file.getvalue()


def literal(name: str) -> str:
    """A name for a plot, where dollars would set formulas."""
    return name.replace("$", r"\$")
