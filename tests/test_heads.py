from torch import nn

from sanslabel.heads import projector


def kinds(head: nn.Sequential) -> list[str]:
    return [type(m).__name__ + "+bias" * (getattr(m, "bias", None) is not None) for m in head]


def test_layers_norms_and_biases_are_where_the_papers_have_them():
    assert kinds(projector(8, 16, 4)) == ["Linear", "BatchNorm1d+bias", "ReLU", "Linear"]
    assert kinds(projector(8, 16, 4, final_norm=True))[-2:] == ["Linear", "BatchNorm1d+bias"]
    assert kinds(projector(8, 16, 16, 4, bias=True)) == [
        *["Linear+bias", "BatchNorm1d+bias", "ReLU"] * 2,
        "Linear",
    ]
    assert kinds(projector(8, 16, 4, norm=False)) == ["Linear+bias", "ReLU", "Linear+bias"]
    assert [p.requires_grad for p in projector(8, 16, 4, final_norm=True).parameters()] == [True] * 5 + [False]
    assert [m.out_features for m in projector(8, 16, 4) if isinstance(m, nn.Linear)] == [16, 4]
