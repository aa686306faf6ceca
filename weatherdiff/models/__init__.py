"""Networks on plain tensors."""

from weatherdiff.models.denoiser import SIZES, Condition, VideoDenoiser

__all__ = ["SIZES", "Condition", "VideoDenoiser"]
