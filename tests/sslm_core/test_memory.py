import sys

import pytest
import torch

from sslm_core.memory import peak_megabytes, start_peak


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the peak counts from the start of the process")
def test_what_was_held_before_does_not_count():
    cpu = torch.device("cpu")
    start_peak(cpu)
    before = peak_megabytes(cpu)
    torch.ones(64 << 20)  # 256 MB, gone at once
    assert peak_megabytes(cpu) > before + 200
    start_peak(cpu)
    assert peak_megabytes(cpu) < before + 50
