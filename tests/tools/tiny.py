"""The smallest preset: for what is tried from end to end."""

from bench.config import presets
from sslm_core.clips import ClipConfig
from sslm_core.downstream import DownstreamConfig
from sslm_core.encoder import EncoderConfig
from sslm_core.jigsaw import JigsawConfig
from sslm_core.pretext import PretextConfig
from sslm_core.sslm import SSLMConfig

TINY = presets.Preset(
    name="tiny",
    exams=(16, 8),
    phantom=(8, 6),
    frame=32,
    planes=(),
    seeds=(0,),
    methods=("sslm", "random", "supervised"),
    tune=0.25,
    sslm=SSLMConfig(
        encoder=EncoderConfig(4, 8, (8, 8), positions=4),
        jigsaw=JigsawConfig(grid=2, permutations=4),
        pretext=PretextConfig("fast", epochs=1, draws=2, batch=8, lr=1e-3),
        clip=ClipConfig(frames=4, edge=1),
        downstream=DownstreamConfig(epochs=1, batch=4, lrs=(1e-3,), optimiser="adam", clips=2, hidden=8, views=2),
        finetune=DownstreamConfig(epochs=1, batch=4, lrs=(1e-3,), optimiser="adam", head="grid", views=1),
    ),
)
