"""The authors' step: each block of targets is predicted by itself from one context, weight decay rises along a cosine,
and the teacher's momentum in a line."""

from math import cos, pi

import torch
from torch.nn.functional import layer_norm, smooth_l1_loss

from sanslabel import views
from sanslabel.encoders import vit
from sanslabel.encoders.tokens import sincos_positions
from sanslabel.methods.ijepa import IJEPA


def test_ijepa_trains_as_its_authors_train(side_by_side, monkeypatch):
    monkeypatch.setitem(vit.SHAPES, "vit_micro", vit.Shape(depth=2, width=32, heads=2))
    method = IJEPA(predictor_width=32, predictor_depth=2)

    def authors(net, method):
        student, teacher, predictor = net.encoder, net.teacher.encoder, net.predictor
        trained = {name: w for name, w in net.named_parameters() if w.requires_grad}
        excluded = {name for name, w in trained.items() if "bias" in name or w.ndim == 1}
        groups = [
            {"params": [w for name, w in trained.items() if name not in excluded], "excluded": False},
            {"params": [trained[name] for name in sorted(excluded)], "excluded": True, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups)
        places = sincos_positions((4, 4), 32)

        def tokens(encoder, images, index=None):
            patches = encoder.patch_embed(encoder.scaled(images)) + encoder.pos_embed[:, 1:]
            patches = patches if index is None else patches.gather(1, index[:, :, None].expand(-1, -1, 32))
            first = encoder.cls_token.expand(len(images), -1, -1)  # as here
            return encoder.norm(encoder.blocks(torch.cat([first, patches], dim=1)))[:, 1:]

        def step(batch, clock):
            images = method.view(batch, 0)
            context, blocks = views.multiblock(batch.key, clock.key, (4, 4), 4, (0.15, 0.2), (0.75, 1.5), (0.85, 1), 1)
            with torch.no_grad():
                whole = layer_norm(tokens(teacher, images), (32,))
            given = predictor.embed(tokens(student, images, context)) + places[context]
            predictions, targets = [], []
            for index in blocks.unbind(1):
                sequence = torch.cat([given, predictor.mask_token + places[index]], dim=1)
                predicted = predictor.norm(predictor.blocks(sequence))[:, context.shape[1] :]
                predictions.append(predictor.head(predicted))
                targets.append(whole.gather(1, index[:, :, None].expand(-1, -1, 32)))
            loss = smooth_l1_loss(torch.cat(predictions), torch.cat(targets))

            after = (clock.step - 4) / (20 - 4)  # theirs is a step further
            warm = 2e-4 + (1e-3 - 2e-4) * (clock.step + 1) / 4
            for group in optimizer.param_groups:
                group["lr"] = warm if clock.step < 4 else 1e-6 + (1e-3 - 1e-6) * (1 + cos(pi * after)) / 2
                if not group["excluded"]:
                    group["weight_decay"] = 0.4 + (0.04 - 0.4) * (1 + cos(pi * clock.step / 20)) / 2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            momentum = 0.996 + clock.step * (1.0 - 0.996) / 20
            with torch.no_grad():
                for old, new in zip(teacher.parameters(), student.parameters(), strict=True):
                    old.mul_(momentum).add_((1 - momentum) * new)

        return step

    side_by_side(
        method,
        IJEPA.recipe,
        authors,
        encoder={"name": "vit_micro"},
        deviation="a class token attends; cosines one step behind",
    )
