"""The authors' step: noise-contrastive estimation whose noise is the mean of the first negatives, Adam with one rate
for all parameters, and banks that move half the way."""

import pytest
import torch
from torch.nn.functional import normalize

from sanslabel.consensus import consensus, integers_without
from sanslabel.methods.avid import AVID, NEGATIVES, WITHIN
from sanslabel.views import LogMel

K, WITHIN_K, P, TAU = 24, 6, 5, 0.07
CHANGES = "decoupled weight decay, banks written after the step, one picture and log-mel"


def scores(query, bank, index):
    return torch.bmm(bank[index], query[:, :, None])[..., 0] / TAU


def criterion(net, positive, negative):
    """Positives are averaged, negatives are summed."""
    count = negative.shape[1]
    if net.partition == 0:
        net.partition.copy_(negative.detach().exp().mean() * 64)
    noise = count * net.partition / 64
    found = positive.exp() / (positive.exp() + noise)
    refused = noise / (negative.exp() + noise)
    return -(found.log().mean(dim=1) + refused.log().sum(dim=1)).mean()


@pytest.mark.parametrize("positives", [None, P])
def test_avid_trains_as_its_authors_train(side_by_side, positives):
    method = AVID(width=16, hidden=16, negatives=K, positives=positives, within_negatives=WITHIN_K, start=0.4, every=2)

    def authors(net, method):
        optimizer = torch.optim.AdamW(net.parameters(), lr=2e-4, weight_decay=1e-5)

        def step(batch, clock):
            sound = LogMel.of(net.encoders["audio"].reads).input(batch, 1).images
            video = normalize(net.projectors["image"](net.encoders["image"](method.view(batch, 0))), dim=1)
            audio = normalize(net.projectors["audio"](net.encoders["audio"](sound)), dim=1)
            banks = [normalize(net.banks[s].embeddings.clone(), dim=1) for s in ("image", "audio")]
            own, excluded = batch.index[:, None], batch.index[:, None]
            agreed = positives is not None and clock.epoch >= 2
            if agreed:
                excluded = torch.cat([own, net.positives[batch.index]], dim=1).sort(dim=1).values
            noise = integers_without(batch.key, K, 64, excluded, NEGATIVES)
            pairs = [(video, banks[1]), (audio, banks[0])]
            loss = sum(criterion(net, scores(q, bank, own), scores(q, bank, noise)) for q, bank in pairs) / 2
            if agreed:
                noise = integers_without(batch.key, WITHIN_K, 64, excluded, WITHIN)
                chosen = net.positives[batch.index]
                pairs = [(video, banks[0]), (audio, banks[1])]
                within = sum(criterion(net, scores(q, bank, chosen), scores(q, bank, noise)) for q, bank in pairs) / 2
                loss = (loss + within) / 2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            for signal, z in (("image", video), ("audio", audio)):
                memory = net.banks[signal].embeddings
                memory[batch.index] = normalize(0.5 * memory[batch.index] + 0.5 * z.detach(), dim=1)
            if positives is not None and clock.step in (7, 15):  # at the end of the second and the fourth epoch
                net.positives.copy_(consensus(net.banks["image"].embeddings, net.banks["audio"].embeddings, P))

        return step

    with_consensus = "; the sample itself is no negative" if positives else ""
    ours, theirs = side_by_side(method, AVID.recipe, authors, deviation=CHANGES + with_consensus, warmup=0)
    if positives:
        assert torch.equal(ours.positives, theirs.positives)
        assert ours.positives.any()
