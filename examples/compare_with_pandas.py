"""results.csv into a figure, with pandas: macro AUC of each method, a dot for each seed.

python examples/compare_with_pandas.py [results.csv] [DATASET]
"""

import sys

import matplotlib.pyplot as plt
import pandas as pd

rows = pd.read_csv(sys.argv[1] if sys.argv[1:] else "results.csv", dtype={"variant": str})
name = sys.argv[2] if sys.argv[2:] else "phantom"
rows = rows[
    (rows.dataset == name) & (rows.label == "macro") & rows.variant.isna() & ~rows.plane.str.startswith("ensemble")
]
auc = rows.pivot_table(index="method", columns="seed", values="auc")  # the mean over planes, where there are several
auc = auc.loc[auc.mean(axis=1).sort_values().index]
print(auc.assign(mean=auc.mean(axis=1), spread=auc.std(axis=1)).round(3).to_string())
figure, ax = plt.subplots(figsize=(6, 0.4 * len(auc) + 1), layout="constrained")
for seed in auc:
    ax.plot(auc[seed], range(len(auc)), "o", color="tab:blue", alpha=0.5)
ax.plot(auc.mean(axis=1), range(len(auc)), "|", color="black", markersize=14)
ax.set(
    xlabel=f"macro AUC on {name}; a dot is a seed, the line their mean", yticks=range(len(auc)), yticklabels=auc.index
)
figure.savefig("compare.png", dpi=150)
