# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 12 · The form of a chapter
#
# *A picture, a question with its answer, a control, an exercise: how a chapter is made, on four numbers.*
#
# Squaring numbers between 0 and 1 makes them smaller. By how much does it lower their mean?

# %% tags=["parameters"]
PROFILE = "teach"

# %% tags=["hide-input"]
import numpy as np
import pandas as pd

from ferkit import plots
from ferkit.notebook import check, figure, footer, ledger_table, profile, record, table
from ferkit.widgets import explore

S = profile(PROFILE, chapter=12, smoke=dict(n=4), teach=dict(n=4))

# %% tags=["hide-input"]
figure(
    plots.gallery.se_block(),
    "gate",
    "A gate multiplies what passes. It can make a channel **smaller**, never larger.",
    "A diagram: x goes to a multiplication, directly and through pooling, two linear"
    " layers and a sigmoid.",
)

# %% [markdown]
# The gate of {fig:gate} has the form of [@senet]: a {term:sigmoid} gives numbers between 0 and 1. We take {{values_n}} such numbers
# and square them.
#
# > **Question.** Their mean is a half. What is the mean of their squares: a quarter, or more?

# %%
values = np.arange(S.n) / (S.n - 1)
squares = values**2
record("values_n", S.n)
record("mean_frac", values.mean())
record("squares_frac", squares.mean())
record("above_n", (squares > 0.25).sum())

# %%
frame = pd.DataFrame({"number": values, "its square": squares})
caption = "A square is below its number, except at 0 and 1."
table(frame, "squares", caption, formats="{:.3f}")

# %% [markdown]
# **Answer.** More: {{squares_frac:.1%}} ({tab:squares}). The mean of squares is the square of the mean *plus the variance*.
#
# What a power does to the curve, {fig:powers} shows. Move it yourself: find the power at which the mean falls below 30 %.


# %% tags=["hide-input"]
def raised(power=2.0):
    """The values raised to `power`, and their mean."""
    with plots.style():
        picture = plots.Figure(figsize=(3.8, 2.2), layout="constrained")
        ax = picture.subplots()
        ax.plot(values, values**power, "o-")
        ax.axhline(np.mean(values**power), linestyle="--", color=plots.COLOURS[1])
        ax.set(xlabel="x", ylabel="x to the power")
        ax.set_title(f"mean {np.mean(values**power):.2f}")
    return picture


explore(
    raised,
    power=(1.0, 4.0, 0.5),
    strip=[{"power": 1.0}, {"power": 4.0}],
    name="powers",
    caption=f"The mean (dashed) falls to {np.mean(values**4):.2f}.",
    alt="Two curves of four points, one straight and one hollow, with their means.",
)

# %% [markdown]
# ## What the paper reports, and what can be checked
#
# The letter says which gate it uses; how many hidden units, it does not ({row:RE-eq2}).

# %%
ledger_table("resemotenet", "eq2", "eq3")

# %% [markdown]
# ## Exercises
#
# **Exercise 1 (by hand).** How many of the squares lie above a quarter?

# %%
answer = None

# %% tags=["hide-input"]
check("squares above a quarter", answer, int((squares > 0.25).sum()))

# %% [markdown]
# <details><summary>Hint</summary>
#
# Square 1/3 and 2/3.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# answer = 2
# ```
#
# A square is above a quarter where the number is above a half: 2/3 and 1.
#
# </details>
#
# **Exercise 2 (change the code).** Take five numbers instead of four. Does the mean of the squares rise?
#
# <details><summary>Solution</summary>
#
# ```python
# answer = int(((np.arange(5) / 4) ** 2).mean() < squares.mean()) + 1
# ```
#
# It falls from 0.389 to 0.375, towards a third.
#
# </details>
#
# **Exercise 3 (paper and code).** Which row of the ledger gives the hidden size?
#
# <details><summary>Solution</summary>
#
# None of the two above. The page of the paper has it.
#
# </details>
#
# ## What you found
#
# The mean of the squares is {{squares_frac:.1%}}, above the quarter that the mean of {{mean_frac:.2f}} suggests. {{above_n}} squares are
# above a quarter.

# %%
footer()
