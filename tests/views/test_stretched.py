import torch

from sanslabel.views import stretched


def test_pictures_stay_and_spectrograms_are_brought_to_0_and_1_each_by_itself():
    generator = torch.Generator().manual_seed(0)
    pictures = torch.rand(3, 1, 4, 6, generator=generator)
    spectrograms = torch.randn(3, 1, 4, 6, generator=generator) * torch.tensor([1.0, 5, 30])[:, None, None, None] - 40
    both = stretched(torch.cat([pictures, spectrograms]))
    assert torch.equal(both[:3], pictures)
    for one, other in zip(spectrograms, both[3:], strict=True):
        torch.testing.assert_close(other, (one - one.min()) / (one.max() - one.min()))
        assert torch.equal(stretched(one[None])[0], other), "the others of a batch play no part"
    assert torch.equal(stretched(torch.full((1, 1, 2, 2), -8.0)), torch.zeros(1, 1, 2, 2)), "silence"
