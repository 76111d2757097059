"""The names of the recipes, for a shell that completes them: the recipes themselves load torch."""

RECIPE_NAMES = (
    "srcnn-x2",
    "srcnn-x3",
    "srcnn-x4",
    "srcnn-paper-x3",
    "swinir-light-x2",
    "swinir-light-x3",
    "swinir-light-x4",
    "esrgan-light-psnr-x4",
    "esrgan-light-gan-x4",
    "esrgan-light-real-psnr-x4",
    "esrgan-light-real-gan-x4",
    "esrgan-medium-real-psnr-x4",
    "esrgan-medium-real-gan-x4",
    "swinir-light-denoise",
    "swinir-light-jpeg",
    "swinir-light-real-x4",
    "vae-light-x4",
    "vae-light-real-x4",
    "esrgan-psnr-x4",
    "esrgan-gan-x4",
)
