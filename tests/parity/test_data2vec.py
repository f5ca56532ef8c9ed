"""The authors' step: the teacher's last blocks are normalized, averaged and normalized again, the gradient is clipped,
and AdamW decays the mask token, but not the class token."""

from dataclasses import replace
from math import cos, pi

import torch
from torch.nn.functional import layer_norm, smooth_l1_loss

from sanslabel import views
from sanslabel.encoders import vit
from sanslabel.methods.data2vec import Data2Vec

CLIP = 0.05
"""far below the norms of gradients here, which the authors' 3 never is"""


def test_data2vec_trains_as_its_authors_train(side_by_side, monkeypatch):
    monkeypatch.setitem(vit.SHAPES, "vit_micro", vit.Shape(depth=3, width=32, heads=2))
    method = Data2Vec(averaged=2)

    def authors(net, method):
        student, teacher = net.encoder, net.teacher.encoder
        trained = {name: w for name, w in net.named_parameters() if w.requires_grad}
        decayed = {name for name, w in trained.items() if w.ndim > 1 and name != "encoder.cls_token"} | {"mask.weight"}
        groups = [
            {"params": [trained[name] for name in sorted(decayed)], "weight_decay": 0.05},
            {"params": [w for name, w in trained.items() if name not in decayed], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups)

        def tokens(encoder, images, masked):
            patches = encoder.patch_embed(encoder.scaled(images))
            patches = patches * (1 - masked) + net.mask.weight * masked
            first = encoder.cls_token.expand(len(images), -1, -1)
            return torch.cat([first, patches], dim=1) + encoder.pos_embed

        def step(batch, clock):
            images = method.view(batch, 0)
            index = views.blockwise(batch.key, (4, 4), 10, 1, 1)
            masked = torch.zeros(len(images), 16, 1, dtype=torch.float64).scatter(1, index[:, :, None], 1.0)
            with torch.no_grad():
                x, layers = tokens(teacher, images, torch.zeros_like(masked)), []
                for block in teacher.blocks:
                    x = block(x)
                    layers.append(layer_norm(x[:, 1:], (32,)))
                target = layer_norm((layers[1] + layers[2]) / 2, (32,))
            prediction = net.head(student.norm(student.blocks(tokens(student, images, masked)))[:, 1:])
            chosen = masked[:, :, 0].bool()
            loss = smooth_l1_loss(prediction[chosen], target[chosen], beta=2.0)

            done = (clock.step - 4) / (20 - 4)
            rate = 2e-3 * (clock.step + 1) / 4 if clock.step < 4 else 1e-5 + (2e-3 - 1e-5) * (1 + cos(pi * done)) / 2
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(trained.values(), CLIP)
            assert norm > CLIP
            optimizer.step()
            with torch.no_grad():
                for old, new in zip(teacher.parameters(), student.parameters(), strict=True):
                    old.copy_(0.9998 * old + (1 - 0.9998) * new)

        return step

    side_by_side(
        method,
        replace(Data2Vec.recipe, clip=CLIP),
        authors,
        encoder={"name": "vit_micro"},
        deviation="fixed positions, not relative; no dropout",
    )
