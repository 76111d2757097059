"""Names for state dicts of other networks, so that a refusal can say what the file is."""

from __future__ import annotations

import re
from collections.abc import Iterable

# (name, patterns that all must match some key); the first that fits is taken
_SIGNATURES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("GFPGAN (face restoration)", (r"stylegan_decoder\.", r"style_conv")),
    ("GFPGAN (face restoration)", (r"stylegan_decoderdotto_rgb",)),
    ("CodeFormer (face restoration)", (r"quantize\.embedding", r"position_emb")),
    ("Stable Diffusion checkpoint", (r"model\.diffusion_model\.",)),
    ("Swin2SR", (r".*\.attn\.logit_scale", r".*\.attn\.cpb_mlp\.")),
    ("HAT", (r"layers\.\d+\.residual_group\.overlap_attn\.",)),
    ("HAT", (r"layers\.\d+\.residual_group\.blocks\.\d+\.conv_block\.",)),
    ("SRFormer", (r".*\.aligned_relative_position_index",)),
    ("DAT", (r"layers\.\d+\.blocks\.\d+\.attn\.(attns|temperature|channel_interaction)",)),
    ("DiffBIR SwinIR", (r"conv_first\.1\.weight", r"layers\.\d+\.residual_group\.")),
    ("Swin transformer classifier", (r"layers\.\d+\.blocks\.\d+\.attn\.qkv", r"head\.weight")),
    ("RCAN or EDSR", (r"head\.0\.weight", r"body\.\d+\.body\.", r"tail\.")),
    ("MSRResNet", (r"conv_first\.weight", r"body\.\d+\.conv1\.weight", r"upconv1\.weight")),
    ("SCUNet", (r"m_head\.0", r"m_down1\.\d+\.(trans_block|conv1_1)")),
    ("DRUNet", (r"m_head\.weight", r"m_down1\.\d+\.res\.")),
    ("Restormer", (r"encoder_level1\.\d+\.attn\.temperature",)),
    ("NAFNet", (r"intro\.weight", r"encoders\.\d+\.\d+\.(beta|gamma|sca)")),
    ("SPAN", (r"block_1\.c1_r\.", r"conv_cat\.")),
    ("OmniSR", (r"residual_layer\.\d+\.residual_layer\.", r"input\.weight")),
    ("FSRCNN", (r"first_part\.", r"mid_part\.", r"last_part\.")),
    ("ESPCN", (r"conv1\.weight", r"conv4\.weight")),
    ("U-Net discriminator", (r"conv0\.weight", r"conv\d\.weight_orig", r"conv9\.weight")),
    ("VGG-style discriminator", (r"conv0_0\.weight", r"bn0_1\.weight", r"linear1\.weight")),
    (
        "VGG-style network (a discriminator or a feature extractor)",
        (r"features\.\d+\.weight", r"classifier\."),
    ),
    ("SPSR (gradient-guided ESRGAN)", (r"b_fea_conv\.", r"model\.1\.sub\.")),
    ("Real-CUGAN", (r"unet1\.conv1\.conv\.0\.", r"unet2\.")),
)


def foreign_name(keys: Iterable[str]) -> str:
    """The name of the network that the keys give away; '' when none of those known here does."""
    listed = list(keys)
    if _is_srvgg(listed):
        return "SRVGGNetCompact (realesr-general-x4v3, realesr-animevideov3 and the like)"
    for name, patterns in _SIGNATURES:
        if all(any(re.match(pattern, key) for key in listed) for pattern in patterns):
            return name
    return ""


def _is_srvgg(keys: list[str]) -> bool:
    """One flat ``body.N`` list of convolutions (even) and PReLUs (odd), nothing else."""
    numbers = {int(m[1]) for k in keys if (m := re.fullmatch(r"body\.(\d+)\.(weight|bias)", k))}
    flat = all(re.fullmatch(r"body\.\d+\.(weight|bias)", key) for key in keys)
    return bool(flat and numbers and numbers == set(range(len(numbers))) and len(numbers) > 3)
