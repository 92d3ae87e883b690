"""Turn patch tokens into the random quarter that a masked autoencoder's encoder sees, shuffled."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Clips whose noise is dropped at once: bounds the memory.
MAX_SKIPPED = 1024


class RandomMask(nn.Module):
    """Drop a share of the patch tokens at random, anew for every clip, and shuffle the rest.

    The order is that of sorted uniform noise, as in MAE's own code and in transformers. Noise is drawn clip by clip
    from a generator of its own, so that a batch of 8 draws what 8 batches of 1 draw.

    Parameters
    ----------
    share : float
        Share of patch tokens to drop, below 1.
    n_class_tokens : int
        Leading tokens that stay.
    """

    def __init__(self, share: float, *, n_class_tokens: int) -> None:
        super().__init__()
        self.share = share
        self.n_class_tokens = n_class_tokens
        self.generator = torch.Generator()
        self.n_skipped = 0

    def reseed(self, seed: int, *, n_skipped: int = 0) -> None:
        """Start the noise afresh; that of the first `n_skipped` clips is drawn and dropped."""
        self.generator.manual_seed(seed)
        self.n_skipped = n_skipped

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, n_class_tokens + kept, width) from tokens (n, n_class_tokens + n_patches, width)."""
        class_tokens, patches = x[:, : self.n_class_tokens], x[:, self.n_class_tokens :]
        n, n_patches, width = patches.shape
        n_kept = int(n_patches * (1 - self.share))
        while self.n_skipped:
            drawn = min(self.n_skipped, MAX_SKIPPED)
            torch.rand(drawn, n_patches, generator=self.generator)
            self.n_skipped -= drawn
        noise = torch.rand(n, n_patches, generator=self.generator)
        kept = noise.argsort(dim=1, stable=True)[:, :n_kept].to(x.device)  # (n, n_kept)
        seen = patches.gather(1, kept[:, :, None].expand(-1, -1, width))
        return torch.cat([class_tokens, seen], dim=1)
