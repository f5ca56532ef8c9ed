"""The references that tests compare with: torchvision and timm import beside a CPU build of torch only when the two
operators that their compiled part would declare are declared for them."""

import torch

try:
    import torchvision  # noqa: F401
except (ImportError, RuntimeError, OSError):
    _torchvision = torch.library.Library("torchvision", "DEF")
    _torchvision.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _torchvision.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

torch.set_num_threads(1)  # small tensors: more threads only wait for each other
