"""The reference that learns from labels: known values, labels that are missing, and that it learns."""

from math import log

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from sanslabel import encoders
from sanslabel.batch import Facts
from sanslabel.errors import BadInput
from sanslabel.methods.supervised import Supervised

METHOD = Supervised.under(Supervised.small).sized(8)


def networks(classes: int = 10):
    torch.manual_seed(0)
    encoder = encoders.build("dcgan", channels=1, image_size=8, filters=8)
    return METHOD.networks(encoder, Facts.of_images(64, 1, 8, 8, classes)).train()


def with_labels(batch, labels: torch.Tensor):
    return batch._replace(signals={**batch.signals, "label": batch.signals["label"]._replace(ids=labels)})


def test_a_classifier_without_an_opinion_costs_ln_of_the_classes(first_batches):
    (clock, batch), *_ = first_batches()
    net = networks()
    nn.init.zeros_(net.classifier.weight)
    nn.init.zeros_(net.classifier.bias)
    (objective,) = METHOD.step(net, batch, clock)
    assert objective.loss.item() == pytest.approx(log(10), rel=1e-6) == pytest.approx(2.302585, abs=1e-6)
    assert objective.trivial == pytest.approx(log(10))


def test_samples_without_a_label_are_left_out_of_loss_and_accuracy(first_batches):
    (clock, batch), *_ = first_batches()
    labels = torch.where(torch.arange(32) % 3 == 0, -1, batch.labels())
    net = networks()
    logits = []
    net.classifier.register_forward_hook(lambda module, args, output: logits.append(output))
    (objective,) = METHOD.step(net, with_labels(batch, labels), clock)
    some = labels >= 0
    torch.testing.assert_close(objective.loss, cross_entropy(logits[0][some], labels[some]))
    accuracy = (logits[0].argmax(dim=1) == labels)[some].float().mean()
    torch.testing.assert_close(objective.terms["accuracy"], accuracy)


def test_a_batch_without_any_label_costs_nothing_and_moves_nothing(first_batches):
    (clock, batch), *_ = first_batches()
    net = networks()
    (objective,) = METHOD.step(net, with_labels(batch, torch.full((32,), -1)), clock)
    objective.loss.backward()
    assert objective.loss.item() == 0
    assert all(p.grad is None or p.grad.abs().max() == 0 for p in net.parameters())


def test_smoothing_spreads_a_part_of_each_label(first_batches):
    (clock, batch), *_ = first_batches()
    net = networks()
    (objective,) = Supervised(view=METHOD.view, smoothing=0.2).step(net, batch, clock)
    with torch.no_grad():
        log_p = net.classifier(net.encoder(METHOD.view(batch, 0))).log_softmax(dim=1)
    target = 0.8 * nn.functional.one_hot(batch.labels(), 10) + 0.2 / 10
    torch.testing.assert_close(objective.loss, -(target * log_p).sum(dim=1).mean(), atol=1e-5, rtol=1e-4)


def test_data_without_labels_are_refused_with_the_remedy():
    with pytest.raises(BadInput, match="sort the images into one folder for each class"):
        networks(classes=0)


def test_it_learns_digits(trained):
    first, *_, last = trained(METHOD, Supervised.small, epochs=10)
    assert last.loss < 0.5 * first.loss
    assert last.terms["accuracy"] > 0.8
