# %% [markdown]
# # 02 · The one after
#
# Only here to be linked to.
