"""The networks of the four papers and their blocks, drawn:
each function returns a Diagram for `ferkit.notebook.figure`.

Shapes are channels × height × width, as the released code has them; tests/unit/test_diagrams.py compares them with the
networks of `ferkit.models`.
"""

from ferkit.plots.diagram import Box, Diagram, Frame, Parallel, Series, Skip


def resemotenet(*, size: int = 64) -> Diagram:
    """Return the diagram of ResEmoteNet: three convolution stages, the squeeze-and-excitation gate,
    three residual blocks, a classifier.

    On the arrows the channels, below them the sides of the map.
    """

    def shape(channels: int, halved: int) -> str:
        side = size >> halved
        return f"{channels}\n{side} × {side}"

    return Diagram(
        Box("image", kind="data"), shape(3, 0),
        Box("conv 3×3\nBN, ReLU\npool"), shape(64, 1),
        Box("conv 3×3\nBN, ReLU\npool"), shape(128, 2),
        Box("conv 3×3\nBN, ReLU\npool"), shape(256, 3),
        Frame("SE", Parallel(Box("gate", kind="gate"), Skip(), join="×")), Diagram.BREAK,
        Box("residual\nblock"), shape(512, 4),
        Box("residual\nblock"), shape(1024, 5),
        Box("residual\nblock"), shape(2048, 6),
        Box("mean over\nplaces", kind="pool"), "2048",
        Box("3 hidden layers\n1024, 512, 256", kind="head"), "256",
        Box("linear", kind="head"), "7",
    )  # fmt: skip


def se_block(*, channels: int = 256, reduction: int = 16) -> Diagram:
    """Return the diagram of squeeze and excitation: one number per channel, computed from the means of all of them,
    scales the map.
    """
    return Diagram(
        Box("x", kind="data"), f"{channels} × h × w",
        Parallel(
            Series(
                Box("mean over\nplaces", kind="pool"), f"{channels}",
                Box("linear\nReLU"), f"{channels // reduction}",
                Box("linear"), f"{channels}",
                Box("sigmoid", kind="gate"), f"{channels}",
            ),
            Skip(),
            join="×",
        ), "the same\nshape",
        Box("y", kind="data"),
    )  # fmt: skip


def projected_residual(*, channels: int = 256, side: int = 8) -> Diagram:
    """Return the diagram of ResEmoteNet's residual block: two convolutions,
    and a shortcut that has to change shape as they do.
    """
    after = f"{2 * channels}\n{side // 2} × {side // 2}"
    return Diagram(
        Box("x", kind="data"), f"{channels}\n{side} × {side}",
        Parallel(
            Series(Box("conv 3×3\nstride 2, BN\nReLU"), after, Box("conv 3×3\nBN")),
            Series(Box("conv 1×1\nstride 2, BN")),
            join="+",
        ), after,
        Box("ReLU"),
    )  # fmt: skip


def residual_masking_block() -> Diagram:
    """Return the diagram of residual masking: a residual stage's map x,
    and a small U-Net whose mask M of the same shape multiplies it as 1 + M.
    """
    return Diagram(
        Box("x", kind="data"),
        Parallel(
            Frame(
                "masking block of depth 2",
                Box("unit"),
                Parallel(Skip(), Series(Box("pool", kind="pool"), Box("unit"), Box("up")), join="cat"),
                Box("2 units"), Box("softmax\nover C", kind="gate"), "M", Box("1 + M", kind="gate"),
            ),
            Skip(),
            join="×",
        ), "x(1 + M)",
    )  # fmt: skip


def cbam() -> Diagram:
    """CBAM: a gate over channels from their means and maxima, then one over places from the channels' mean and maximum.

    The box "two linear" is one module, used twice.
    """

    def looks(over: str, *then: Box) -> list[Series]:
        return [Series(Box(f"{how} over\n{over}", kind="pool"), *then) for how in ("mean", "max")]

    return Diagram(
        Box("x", kind="data"), "C × h × w",
        Parallel(
            Series(
                Parallel(*looks("places", Box("two linear\nlayers")), join="+"),
                Box("sigmoid", kind="gate"), "C × 1 × 1",
            ),
            Skip(),
            join="×",
        ), "C × h × w",
        Diagram.BREAK,
        Parallel(
            Series(
                Parallel(*looks("channels"), join="stack"), "2 × h × w",
                Box("conv 7×7\nBN"), Box("sigmoid", kind="gate"), "1 × h × w",
            ),
            Skip(),
            join="×",
        ), "C × h × w",
        Box("y", kind="data"),
    )  # fmt: skip


def bam() -> Diagram:
    """BAM: one number per channel times one per place, under one sigmoid, added to 1."""
    return Diagram(
        Box("x", kind="data"),
        Parallel(
            Series(
                Parallel(
                    Series(Box("mean over\nplaces", kind="pool"), Box("two linear\nlayers"), "C × 1 × 1"),
                    Series(Box("conv 1×1"), Box("conv 3×3\ndilated, × 2"), Box("conv 1×1"), "1 × h × w"),
                    join="×",
                ),
                Box("sigmoid", kind="gate"), Box("1 +", kind="gate"),
            ),
            Skip(),
            join="×",
        ),
        Box("y", kind="data"),
    )  # fmt: skip


def coordinate_attention() -> Diagram:
    """Coordinate attention: a gate per channel and row and one per channel and column, from means of rows and columns.

    Both kinds of means pass one convolution before they get one each.
    """
    arms = [
        Series(
            Box(f"{strip} means", kind="pool"), f"C × {shape}",
            Box("conv 1×1, BN\nh-swish", note="shared"), Box("conv 1×1"), Box("sigmoid", kind="gate"), f"C × {shape}",
        )
        for strip, shape in (("row", "h × 1"), ("column", "1 × w"))
    ]  # fmt: skip
    return Diagram(Box("x", kind="data"), Parallel(arms[0], Skip(), arms[1], join="×"), Box("y", kind="data"))


def spatial_bias() -> Diagram:
    """Spatial bias on a 2 × 2 grid: a few numbers per quarter of the picture, put beside the map."""
    return Diagram(
        Box("x", kind="data"), "C × h × w",
        Parallel(
            Series(
                Box("conv 1×1\nBN, ReLU"), "n + 2",
                Box("mean over\nquarters", kind="pool"), "n + 2\n2 × 2",
                Box("conv along\nchannels"), "n\n2 × 2",
            ),
            Skip(),
            join="beside",
        ),
        Box("classifier", kind="head"),
    )  # fmt: skip


def esr(*, branches: int = 3) -> Diagram:
    """Return the diagram of ensembles with shared representations: one base, then branches that each answer;
    the vote is their answer.
    """
    arms = [
        Series(Box(f"branch {i}\nconv ×4"), "512", Box("linear", kind="head"), f"y{_below(i)}")
        for i in range(1, branches + 1)
    ]
    return Diagram(
        Box("image", kind="data"), "3 × 96 × 96",
        Box("shared base\nconv ×4"), "128 × 20 × 20",
        Parallel(*arms, join="vote"),
        Box("class", kind="data"),
    )  # fmt: skip


def _below(number: int) -> str:
    return "".join("₀₁₂₃₄₅₆₇₈₉"[int(d)] for d in str(number))


def lfnsb_bottleneck() -> Diagram:
    """Return the diagram of the inverted bottleneck of LFNSB: widen, mix neighbours channel by channel, attend,
    narrow, add.
    """
    return Diagram(
        Box("x", kind="data"), "c × h × w",
        Parallel(
            Skip("only where stride is 1 and c is kept"),
            Series(
                Box("conv 1×1\nBN, PReLU"), "t",
                Box("mixed\ndepthwise conv"), "t",
                Box("coordinate\nattention", kind="gate"), "t",
                Box("conv 1×1\nBN"), "c",
            ),
            join="+",
        ),
        Box("y", kind="data"),
    )  # fmt: skip
