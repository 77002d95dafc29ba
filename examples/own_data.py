"""From a folder of arrays to a table and a plot, with the core alone: does the jigsaw help on these exams?

python examples/own_data.py DATA PLANE [EPOCHS]    DATA/train/PLANE/*.npy, DATA/train-LABEL.csv; a third of the exams is
reported
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from sslm_core.sslm import (
    DownstreamConfig,
    PretextConfig,
    SSLMConfig,
    diagnose,
    new_encoder,
    predict,
    pretext,
    size,
    store_of,
)

data, plane, epochs = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]) if sys.argv[3:] else 10
files = sorted((data / "train" / plane).glob("*.npy"))
tables = {
    path.stem.removeprefix("train-"): dict(np.loadtxt(path, str, delimiter=","))
    for path in sorted(data.glob("train-*.csv"))
}
truth = torch.tensor([[float(table[file.stem]) for table in tables.values()] for file in files])  # [exams, labels]
store = store_of([np.load(file) for file in files], 64)  # frames of 64 x 64
fit, tune, reported = (
    torch.randperm(len(files), generator=torch.Generator().manual_seed(0))[k::3].sort().values for k in range(3)
)
config = SSLMConfig(
    size("w8"),
    pretext=PretextConfig("fast", epochs=epochs, batch=64, lr=2e-3),
    downstream=DownstreamConfig(
        epochs, batch=4, lrs=(2e-3,), optimiser="adamw", schedule="cosine", standardise=True, hidden=32, views=1
    ),
)
solved = pretext(config, store, fit, tune, seed=0)  # jigsaws: no label is seen
found = {}
for name, encoder in {"jigsaw": solved.encoder, "random weights": new_encoder(config.encoder, 0)}.items():
    # a head; the encoder is frozen
    model = diagnose(config, encoder, config.encoder.channels, store, truth, fit, tune, seed=0)[0].model
    scores = predict(model, store, reported, config.clip, config.downstream, seed=0)
    found[name] = [roc_auc_score(truth[reported, k], scores[:, k]) for k in range(len(tables))]
print(f"{'AUC':16s}", *(f"{label:>12s}" for label in tables))
for name, aucs in found.items():
    print(f"{name:16s}", *(f"{auc:12.3f}" for auc in aucs))
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
left.plot([epoch["tune_accuracy"] for epoch in solved.history], "o-")
left.set(xlabel="epoch", ylabel="jigsaws solved, tune exams")
for k, (name, aucs) in enumerate(found.items()):
    right.bar(np.arange(len(tables)) + 0.4 * k, aucs, 0.4, label=name)
right.set(ylabel="AUC", xticks=np.arange(len(tables)) + 0.2, xticklabels=list(tables), ylim=(0, 1))
right.legend()
figure.savefig("own_data.png", dpi=150)
