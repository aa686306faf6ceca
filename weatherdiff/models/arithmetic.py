"""Which arithmetic is fast here."""

from __future__ import annotations

import torch

__all__ = ["bfloat16_is_fast"]


def bfloat16_is_fast() -> bool:
    """Tell whether the device computes in bfloat16, rather than imitating it.

    A graphics processor that supports it does, and so does a processor with the instructions
    (AVX-512 BF16 or AMX). One without is several times slower in bfloat16 than in float32.

    Examples
    --------
    >>> bfloat16_is_fast() in (True, False)
    True
    """
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # New in PyTorch 2.11.
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16"))
