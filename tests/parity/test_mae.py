"""The authors' step: the encoder reads a quarter of the patches, the decoder all places in their order, and AdamW
decays all but biases and norms."""

from math import cos, pi

import torch

from sanslabel import views
from sanslabel.encoders import vit
from sanslabel.encoders.tokens import sincos_positions
from sanslabel.methods.mae import MAE


def test_mae_trains_as_its_authors_train(side_by_side, monkeypatch):
    monkeypatch.setitem(vit.SHAPES, "vit_micro", vit.Shape(depth=2, width=32, heads=2))
    method = MAE(decoder_width=32, decoder_depth=2)

    def authors(net, method):
        encoder, decoder = net.encoder, net.decoder
        trained = {name: w for name, w in net.named_parameters() if w.requires_grad}
        plain = {name for name, w in trained.items() if w.ndim == 1 or name.endswith(".bias")}
        groups = [
            {"params": [w for name, w in trained.items() if name not in plain], "weight_decay": 0.05},
            {"params": [trained[name] for name in plain], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95))
        places = sincos_positions((4, 4), 32)

        def step(batch, clock):
            images = method.view(batch, 0)
            visible = views.kept_patches(batch.key, 16, 0.75, 1)  # 4 of 16
            patches = encoder.patch_embed(encoder.scaled(images)) + encoder.pos_embed[:, 1:]
            kept = patches.gather(1, visible[:, :, None].expand(-1, -1, 32))
            first = (encoder.cls_token + encoder.pos_embed[:, :1]).expand(len(images), -1, -1)
            latent = encoder.norm(encoder.blocks(torch.cat([first, kept], dim=1)))

            tokens = decoder.mask_token.repeat(len(images), 16, 1)
            tokens = tokens.scatter(1, visible[:, :, None].expand(-1, -1, 32), decoder.embed(latent)[:, 1:])
            prediction = decoder.head(decoder.norm(decoder.blocks(tokens + places)))  # without the class token, as here

            target = images.view(-1, 4, 2, 4, 2).transpose(2, 3).reshape(-1, 16, 4)  # of one channel
            target = (target - target.mean(dim=2, keepdim=True)) / (target.var(dim=2, keepdim=True) + 1e-6) ** 0.5
            masked = torch.ones(len(images), 16, dtype=torch.float64).scatter(1, visible, 0.0)
            loss = ((prediction - target).square().mean(dim=2) * masked).sum() / masked.sum()

            done = (clock.step - 4) / (20 - 4)
            for group in optimizer.param_groups:
                group["lr"] = 1.5e-4 * 16 / 256 * ((clock.step + 1) / 4 if clock.step < 4 else (1 + cos(pi * done)) / 2)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        return step

    ours, _ = side_by_side(
        method,
        MAE.recipe,
        authors,
        encoder={"name": "vit_micro"},
        deviation="warm-up begins above 0, no class token in the decoder",
    )
    assert not ours.encoder.pos_embed.requires_grad
