"""The numbers of the authors' training that parity replaces by small ones."""

import pytest

from sanslabel import methods
from sanslabel.encoders import encoder_options

AUTHORS = {
    "avid": ("resnet18", 256, 300, 0),
    "autoencoder": ("mlp", 256, 20, 0),
    "barlow_twins": ("resnet50", 2048, 1000, 10),
    "byol": ("resnet50", 4096, 1000, 10),
    "cross_modal": ("resnet50", 32_768, 32, 0.16),
    "dae": ("mlp", 256, 20, 0),
    "data2vec": ("vit_base", 2048, 800, 10),
    "dcgan": ("dcgan", 128, 25, 0),
    "deepcluster": ("resnet50", 4096, 800, 10),
    "dino": ("vit_small", 512, 100, 10),
    "ebgan": ("dcgan", 64, 200, 0),
    "ijepa": ("vit_base", 2048, 600, 40),
    "jigsaw": ("resnet50", 256, 105, 5),
    "mae": ("vit_base", 4096, 800, 40),
    "moco": ("resnet50", 256, 200, 0),
    "moco_v3": ("vit_small", 4096, 300, 40),
    "npid": ("resnet50", 256, 200, 0),
    "pirl": ("resnet50", 1024, 800, 0),
    "relative_position": ("resnet50", 128, 35, 5),
    "rotation": ("resnet50", 256, 105, 0),
    "simclr": ("resnet50", 4096, 100, 10),
    "simsiam": ("resnet50", 512, 100, 0),
    "supervised": ("resnet50", 256, 90, 0),
    "swav": ("resnet50", 4096, 800, 10),
    "tracking": ("resnet50", 50, 5, 0),
    "vae": ("mlp", 128, 20, 0),
    "vicreg": ("resnet50", 2048, 1000, 10),
}
"""encoder, samples of a batch, epochs, and epochs of warm-up, in the commands and configurations of the references"""


@pytest.mark.parametrize("name", AUTHORS)
def test_encoder_batch_and_epochs_are_the_authors(name):
    recipe = methods.method_class(name).recipe
    options = encoder_options(recipe.encoder)
    assert (options["name"], recipe.batch, recipe.epochs, recipe.warmup) == AUTHORS[name]
