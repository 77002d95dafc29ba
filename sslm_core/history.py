"""What training loops record, epoch by epoch."""

import math


def least_loss(history: list[dict]) -> dict:
    """The record with the least loss on tune; a loss that is not finite comes last."""
    return min(history, key=lambda record: record["tune_loss"] if math.isfinite(record["tune_loss"]) else math.inf)
