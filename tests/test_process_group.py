"""What torchrun's and SLURM's variables say of the processes of a command."""

import pytest

import sanslabel
from sanslabel import process_group
from sanslabel.errors import BadInput

FIRST = ("RANK", "WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "SLURM_RESTART_COUNT")


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    for name in (*FIRST, "TORCHELASTIC_USE_AGENT_STORE", "SLURM_STEP_ID", "TORCHELASTIC_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)


def test_a_process_alone_joins_nobody(monkeypatch):
    assert process_group._meeting() is None
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert process_group._meeting() is None
    with process_group.joined():
        assert not process_group.dist.is_initialized()


def test_torchrun(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("MASTER_ADDR", "node1")
    monkeypatch.setenv("MASTER_PORT", "29500")
    assert process_group._meeting() == process_group.Meeting("node1", 29500, 1, 2, holds=False)
    monkeypatch.setenv("RANK", "0")
    assert process_group._meeting().holds
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    assert not process_group._meeting().holds


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("node7", "node7"),
        ("node3,node4", "node3"),
        ("node[03-07,12]", "node03"),
        ("gpu-a[1-2],gpu-b3", "gpu-a1"),
        ("n[1,3].cluster.org", "n1.cluster.org"),
    ],
)
def test_srun(monkeypatch, nodes, first):
    for name, value in {
        "SLURM_STEP_NUM_TASKS": "8",
        "SLURM_PROCID": "5",
        "SLURM_STEP_NODELIST": nodes,
        "SLURM_JOB_ID": "1000123",
    }.items():
        monkeypatch.setenv(name, value)
    assert process_group._meeting() == process_group.Meeting(first, 20123, 5, 8, holds=False)
    monkeypatch.setenv("SLURM_STEP_ID", "2")
    assert process_group._meeting().port == 20325


def test_a_batch_script_by_itself_is_one_process(monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "8")
    monkeypatch.setenv("SLURM_PROCID", "0")
    assert process_group._meeting() is None


@pytest.mark.parametrize("by", ["TORCHELASTIC", "SLURM"])
def test_a_command_that_was_started_anew_goes_on_with_its_run(monkeypatch, tmp_path, by):
    flags = {"method": "byol", "encoder": "mlp", "epochs": 1, "batch": 256, "out": tmp_path / "run"}
    first = sanslabel.train("digits", **flags)
    with pytest.raises(BadInput, match="exists already"):
        sanslabel.train("digits", **flags)
    monkeypatch.setenv(f"{by}_RESTART_COUNT", "1")
    assert process_group.restarted()
    assert sanslabel.train("digits", **flags).plan == first.plan


def test_restarts_ask_for_a_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "2")
    with pytest.raises(BadInput, match="`out`: name a run folder"):
        sanslabel.train("digits")
