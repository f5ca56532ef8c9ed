"""What a trained method can do is found by its functions, and an error names the methods that can."""

import pytest
import torch

from sanslabel import methods
from sanslabel.errors import BadInput
from sanslabel.methods.abilities import (
    VERBS,
    EmbedsSignals,
    Encodes,
    HasDensity,
    HasEnergy,
    HasPairEnergy,
    HasPrior,
    Reconstructs,
    Samples,
    Translates,
    require,
)
from sanslabel.methods.method import Family
from sanslabel.methods.simclr import SimCLR
from sanslabel.methods.vae import VAE

CAPABLE = {
    Samples: ["dae", "dcgan", "ebgan", "vae"],
    HasPrior: ["dcgan", "ebgan", "vae"],
    Encodes: ["autoencoder", "dae", "vae"],
    HasEnergy: ["autoencoder", "dae", "dcgan", "ebgan", "vae"],
    Reconstructs: ["autoencoder", "dae", "mae", "vae"],
    HasDensity: ["vae"],
    EmbedsSignals: ["avid", "cross_modal"],
    HasPairEnergy: ["translation"],
    Translates: ["translation"],
}


@pytest.mark.parametrize("ability", CAPABLE, ids=lambda ability: ability.__name__)
def test_methods_have_the_abilities_that_their_functions_give_them(ability):
    assert [n for n in methods.names() if isinstance(methods.method_class(n)(), ability)] == CAPABLE[ability]
    method = VAE() if "vae" in CAPABLE[ability] else methods.method_class(CAPABLE[ability][0])()
    assert require(method, ability) is method
    with pytest.raises(
        BadInput, match=f"^SimCLR cannot {VERBS[ability]}; train one of {', '.join(CAPABLE[ability])}.$"
    ):
        require(SimCLR(), ability)


def test_a_class_of_ones_own_has_an_ability_without_inheriting_it():
    class Mine:
        unit = "nats"

        def energy_of(self, net, images):
            return images.flatten(1).sum(dim=1)

    assert isinstance(Mine(), HasEnergy)
    assert not isinstance(Mine(), Samples)
    assert require(Mine(), HasEnergy).energy_of(None, torch.ones(2, 1, 2, 2)).tolist() == [4, 4]


def test_families_are_those_of_the_field():
    values = {"contrastive", "clustering", "redundancy reduction", "distillation"}
    values |= {"prediction", "pretext", "generative", "supervised"}
    assert {str(family) for family in Family} == values
    assert {methods.method_class(name).family for name in methods.names()} == set(Family)
    with pytest.raises(ValueError, match="magic"):
        Family("magic")
