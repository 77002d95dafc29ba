import pickle

import pytest
import torch

from sslm_core.checkpoint import Resume, load, save
from sslm_core.errors import UserError
from sslm_core.files import write_atomic
from tests.conftest import Evil


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.pt"
    save(path, {"x": torch.arange(3)})

    def fail(temporary):
        temporary.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="No space left"):
        write_atomic(path, fail)
    assert load(path)["x"].tolist() == [0, 1, 2]
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]


def test_loading_executes_nothing(tmp_path, capsys):
    torch.save({"x": Evil()}, tmp_path / "evil.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Evil(), 2))
    (tmp_path / "short.pt").write_bytes(b"PK\x03\x04")
    for name in ("evil.pt", "plain.pt", "short.pt"):
        with pytest.raises(UserError, match=name):
            load(tmp_path / name)
    assert "executed" not in capsys.readouterr().out


def test_another_identity_is_refused_by_name(tmp_path):
    Resume(tmp_path / "a.ckpt", {"data": "aaa", "seed": 1}, seconds=0).tick(lambda: {"step": 3})
    assert Resume(tmp_path / "a.ckpt", {"data": "aaa", "seed": 1}).load()["step"] == 3
    with pytest.raises(UserError, match="a.ckpt: made with data = aaa, now bbb"):
        Resume(tmp_path / "a.ckpt", {"data": "bbb", "seed": 1}).load()


def test_saves_no_more_often_than_asked(tmp_path):
    resume = Resume(tmp_path / "a.ckpt", {}, seconds=1000)
    resume.tick(lambda: {"step": 1})
    assert resume.load() is None
