# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 01 · A demonstration
#
# Everything a notebook must have, in a few cells.
#
# ## Objectives
#
# - see a record
# - move a control

# %% tags=["parameters"]
PROFILE = "teach"
SCALE = 1.0

# %%
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from ipywidgets import IntSlider, interact

from ferkit.notebook import check, footer, profile, record

S = profile(PROFILE, smoke=dict(epochs=1), teach=dict(epochs=8))

# %% [markdown]
# The idea is as old as [@senet]. What will the mean be?

# %%
values = SCALE * np.arange(4) / 6
record("mean_frac", values.mean())
record("epochs_n", S.epochs)

# %% tags=["nbval-check-output"]
values.shape


# %%
def bars(power):
    figure, axes = plt.subplots(figsize=(3, 2))
    axes.bar(range(4), values**power)
    axes.set_title(f"power {power}")
    plt.close(figure)
    return figure


display(bars(1))
interact(lambda power: print(f"sum {sum(values**power):.4f}"), power=IntSlider(1, 1, 5, description="power"));

# %% [markdown]
# ## Exercises
#
# How many values are there?

# %%
answer = None

# %%
check("the number of values", answer, 4)

# %% tags=["solution"]
answer = len(values)
check("the number of values", answer, 4)

# %% [markdown]
# ## Recap
#
# - see a record
# - move a control

# %%
footer()
