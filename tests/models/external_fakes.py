"""Turn small configurations into transformers folders, as save_pretrained leaves them: no network is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers as t

SMALL: dict[str, Any] = {
    "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 96, "image_size": 64,
    "patch_size": 16,
}  # fmt: skip
CLIP: dict[str, Any] = {"num_frames": 4}
DINO: dict[str, Any] = {k: v for k, v in SMALL.items() if k != "intermediate_size"} | {"mlp_ratio": 2}

# name -> configuration, processor
CONFIGS: dict[str, tuple[Any, Any]] = {
    "vit": (lambda: t.ViTConfig(**SMALL), lambda: t.ViTImageProcessor(size={"height": 64, "width": 64})),
    "deit": (
        lambda: t.DeiTConfig(**SMALL),
        lambda: t.DeiTImageProcessor(size={"height": 72, "width": 72}, crop_size={"height": 64, "width": 64}),
    ),
    "beit": (lambda: t.BeitConfig(**SMALL), lambda: t.ViTImageProcessor(size={"height": 64, "width": 64})),
    "dinov2": (
        lambda: t.Dinov2Config(**DINO),
        lambda: t.BitImageProcessor(size={"shortest_edge": 72}, crop_size={"height": 64, "width": 64}),
    ),
    "dinov2-registers": (
        lambda: t.Dinov2WithRegistersConfig(**DINO, num_register_tokens=4),
        lambda: t.BitImageProcessor(size={"shortest_edge": 72}, crop_size={"height": 64, "width": 64}),
    ),
    "clip": (
        lambda: t.CLIPVisionConfig(**SMALL),
        lambda: t.CLIPImageProcessor(size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}),
    ),
    "siglip": (
        lambda: t.SiglipVisionConfig(**SMALL),
        lambda: t.SiglipImageProcessor(size={"height": 64, "width": 64}),
    ),
    "convnext": (
        lambda: t.ConvNextConfig(depths=[1, 1, 2, 1], hidden_sizes=[8, 16, 24, 32], image_size=64),
        lambda: t.ConvNextImageProcessor(size={"shortest_edge": 64}),
    ),
    "swin": (
        lambda: t.SwinConfig(image_size=64, embed_dim=12, depths=[1, 2], num_heads=[2, 2], window_size=4),
        lambda: t.ViTImageProcessor(size={"height": 64, "width": 64}),
    ),
    "videomae": (
        lambda: t.VideoMAEConfig(**SMALL, **CLIP),
        lambda: t.VideoMAEImageProcessor(size={"shortest_edge": 72}, crop_size={"height": 64, "width": 64}),
    ),
    "timesformer": (
        lambda: t.TimesformerConfig(**SMALL, **CLIP),
        lambda: t.VideoMAEImageProcessor(size={"shortest_edge": 72}, crop_size={"height": 64, "width": 64}),
    ),
    "vivit": (
        lambda: t.VivitConfig(**{k: v for k, v in SMALL.items() if k != "patch_size"}, **CLIP),
        lambda: t.VivitImageProcessor(size={"shortest_edge": 72}, crop_size={"height": 64, "width": 64}),
    ),
}
IMAGES = ("vit", "deit", "beit", "dinov2", "dinov2-registers", "clip", "siglip", "convnext", "swin")
VIDEOS = ("videomae", "timesformer", "vivit")


def save_folder(folder: Path, name: str, *, seed: int = 0) -> Path:
    """Write config.json, preprocessor_config.json and model.safetensors of a small model; return the folder."""
    from transformers.utils import logging

    config, processor = CONFIGS[name]
    made = folder / name
    logging.disable_progress_bar()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        t.AutoModel.from_config(config()).save_pretrained(made)
    processor().save_pretrained(made)
    return made
