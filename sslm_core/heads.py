"""What stands on an encoder: the permutation classifier, and heads that turn a clip's feature maps into label logits.

Clip heads take maps [B, T, C, h, w] and the number of real frames of each clip, [B]; the rest is padding and never
changes a logit.
"""

import torch
import torch.nn as nn
import torch.nn.functional as F

from .errors import UserError, one_of


class PermutationHead(nn.Sequential):
    """Feature maps [B, C, h, w] -> logits [B, K]: global average pool, Linear, ReLU, Linear."""

    def __init__(self, channels: int, hidden: int, classes: int):
        super().__init__(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(channels, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, classes),
        )


# of the first of 16 frames 3 times the gradient of the last is left; .3 at 1 (Keras), .002 at 0 (torch)
FORGET_BIAS = 2.0


class ConvLSTMLayer(nn.Module):
    """3x3 ConvLSTM (Shi et al. 2015). The input's convolution is done for all frames at once; only the recurrent one is
    sequential."""

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.inputs = nn.Conv2d(channels, 4 * hidden, 3, padding=1)
        self.recurrent = nn.Conv2d(hidden, 4 * hidden, 3, padding=1, bias=False)
        nn.init.constant_(self.inputs.bias[hidden : 2 * hidden], FORGET_BIAS)  # type: ignore[index]

    def forward(self, maps: torch.Tensor, real: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """maps [B, T, C, h, w], real [B, T] bool -> hidden states [B, T, hidden, h, w] and the last real one [B,
        hidden, h, w]."""
        b, t = maps.shape[:2]
        gates = self.inputs(maps.flatten(0, 1)).unflatten(0, (b, t))  # [B, T, 4 * hidden, h, w]
        state = cell = gates.new_zeros(b, gates.shape[2] // 4, *gates.shape[3:])
        states = []
        for k in range(t):
            i, f, o, g = (gates[:, k] + self.recurrent(state)).chunk(4, 1)
            fresh = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
            keep = real[:, k, None, None, None]
            cell = torch.where(keep, fresh, cell)
            state = torch.where(keep, torch.sigmoid(o) * torch.tanh(fresh), state)
            states.append(state)
        return torch.stack(states, 1), state


class ConvLSTMHead(nn.Module):
    """The paper's: two ConvLSTM layers, the last state averaged over its map, Linear."""

    def __init__(self, channels: int, hidden: int, labels: int):
        super().__init__()
        self.first, self.second = ConvLSTMLayer(channels, hidden), ConvLSTMLayer(hidden, hidden)
        self.linear = nn.Linear(hidden, labels)

    def forward(self, maps: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
        real = mask(maps, count)
        states, _ = self.first(maps, real)
        _, last = self.second(states, real)
        return self.linear(last.mean((2, 3)))


class LinearProbe(nn.Linear):
    """Only a linear layer, on features averaged over the map and the frames."""

    def __init__(self, channels: int, hidden: int, labels: int):
        super().__init__(channels, labels)

    def forward(self, maps: torch.Tensor, count: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        pooled = maps.mean((3, 4)) * mask(maps, count)[..., None]
        return super().forward(pooled.sum(1) / count[:, None])


class MaxOverFrames(nn.Linear):
    """MRNet's: features averaged over the map, their maximum over frames, Linear."""

    def __init__(self, channels: int, hidden: int, labels: int):
        super().__init__(channels, labels)

    def forward(self, maps: torch.Tensor, count: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        pooled = maps.mean((3, 4)).masked_fill(~mask(maps, count)[..., None], -torch.inf)
        return super().forward(pooled.amax(1))


class GridOverFrames(nn.Linear):
    """Features averaged over the cells of a SIDE x SIDE grid, the maximum over frames in each cell, Linear.

    Where a lesion lies says what it is; an average over the whole map forgets it.
    """

    SIDE = 4  # a smaller map is repeated

    def __init__(self, channels: int, hidden: int, labels: int):
        super().__init__(channels * self.SIDE**2, labels)

    def forward(self, maps: torch.Tensor, count: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        # [B, T, 16 C]
        cells = F.adaptive_avg_pool2d(maps.flatten(0, 1), self.SIDE).flatten(1).unflatten(0, maps.shape[:2])
        return super().forward(cells.masked_fill(~mask(maps, count)[..., None], -torch.inf).amax(1))


class LSTMHead(nn.Module):
    """An LSTM over features averaged over the map; its output at the last real frame, Linear."""

    def __init__(self, channels: int, hidden: int, labels: int):
        super().__init__()
        self.lstm = nn.LSTM(channels, hidden, batch_first=True)
        self.linear = nn.Linear(hidden, labels)

    def forward(self, maps: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
        states, _ = self.lstm(maps.mean((3, 4)))
        return self.linear(states[torch.arange(len(states), device=states.device), count - 1])


class PooledProbe(nn.Module):
    """The linear probe of the field: of each cell of grids of GRIDS cells a side the average and the maximum, and of
    these the mean, maximum and spread over an exam's frames.

    `linear` takes the pooled features standardised by `mean` and `spread`. All three are fitted outside of this
    package, by logistic regression: no step of gradient descent is taken here.
    """

    GRIDS = (1, 2, 4)  # a map smaller than a grid is repeated
    PER_CHANNEL = 6 * sum(side * side for side in GRIDS)  # features
    whole = True

    mean: torch.Tensor
    spread: torch.Tensor

    def __init__(self, channels: int, hidden: int, labels: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels * self.PER_CHANNEL))
        self.register_buffer("spread", torch.ones(channels * self.PER_CHANNEL))
        self.linear = nn.Linear(channels * self.PER_CHANNEL, labels)

    @classmethod
    def of_frames(cls, maps: torch.Tensor) -> torch.Tensor:
        """Maps [N, C, h, w] -> averages and maxima of the cells of each grid [N, 42 C]."""
        pools = (F.adaptive_avg_pool2d, F.adaptive_max_pool2d)
        return torch.cat([pool(maps, side).flatten(1) for pool in pools for side in cls.GRIDS], 1)

    @staticmethod
    def over_frames(x: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
        """[B, T, F] of which `count` frames are real -> mean, maximum and spread over those [B, 3 F]."""
        # a GPU is not asked: it would make the host wait
        padded = x.device.type != "cpu" or int(count.min()) < x.shape[1]
        padding = ~mask(x, count)[..., None]

        def without(values: torch.Tensor, fill: float) -> torch.Tensor:
            return values.masked_fill(padding, fill) if padded else values

        mean = without(x, 0).sum(1) / count[:, None]
        square = without((x - mean[:, None]).square(), 0).sum(1) / count[:, None]
        return torch.cat([mean, without(x, -torch.inf).amax(1), square.clamp(min=1e-12).sqrt()], 1)

    def forward(self, maps: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
        return self.of_pooled(self.over_frames(self.of_frames(maps.flatten(0, 1)).unflatten(0, maps.shape[:2]), count))

    def of_pooled(self, x: torch.Tensor) -> torch.Tensor:
        """Pooled features [B, 126 C] -> logits [B, L]."""
        return self.linear((x - self.mean) / self.spread)


HEADS = {
    "convlstm": ConvLSTMHead,
    "linear": LinearProbe,
    "max": MaxOverFrames,
    "grid": GridOverFrames,
    "lstm": LSTMHead,
    "logistic": PooledProbe,
}


def clip_head(name: str, channels: int, hidden: int, labels: int) -> nn.Module:
    if name not in HEADS:
        raise UserError(f"head {name!r}: {one_of(HEADS, name)}")
    return HEADS[name](channels, hidden, labels)


def mask(maps: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    """True for the real frames: [B, T]."""
    return torch.arange(maps.shape[1], device=maps.device) < count[:, None]
