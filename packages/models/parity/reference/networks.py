"""Goldens of the U-Net and of the autoencoders."""

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel

from .common import config_of, draw, normal, stream, trace, vjp, write


UNET = dict(
    in_channels=4, out_channels=4, norm_num_groups=4, cross_attention_dim=12, layers_per_block=1,
)  # fmt: skip
SD1 = dict(
    **UNET,
    block_out_channels=(8, 8, 16, 16),
    down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    attention_head_dim=2,
)
SD2 = dict(
    **UNET,
    block_out_channels=(8, 16),
    down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    attention_head_dim=(2, 4),
    use_linear_projection=True,
)
EMOJI = dict(
    **{**UNET, "layers_per_block": 2},
    block_out_channels=(8, 16),
    down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    attention_head_dim=4,
    resnet_time_scale_shift="scale_shift",
    addition_embed_type="text",
    addition_embed_type_num_heads=4,
)
MIXED = dict(
    **{**UNET, "in_channels": 3, "out_channels": 5},
    block_out_channels=(8, 16),
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    attention_head_dim=(2, 4),
    flip_sin_to_cos=False,
    freq_shift=1,
    norm_eps=1e-4,
)

SDXL = dict(
    **UNET,
    block_out_channels=(8, 16, 16),
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    attention_head_dim=(1, 2, 4),
    transformer_layers_per_block=(1, 2, 3),
    use_linear_projection=True,
    addition_embed_type="text_time",
    addition_time_embed_dim=6,
    projection_class_embeddings_input_dim=10 + 6 * 6,
)


def unet_block(name):
    """Every level, and what is inside the first levels and the middle."""
    parts = name.split(".")
    if name.endswith(".fuser") or name in ("time_embedding", "add_embedding", "position_net", "mid_block") or (len(parts) == 2 and parts[0] in ("down_blocks", "up_blocks")):
        return True
    inside = name.startswith(("down_blocks.0.", "up_blocks.0.", "mid_block.")) and not name.endswith(".fuser.attn")  # ours answers for pixels alone
    return inside and (len(parts) <= 4 or name.startswith("mid_block.attentions.0."))


def unet_golden(name, options, size, timesteps, batch=2, tokens=7, blocks=True, gradients=True, weights_of=None, sizes=None, objects=None):
    model = draw(UNet2DConditionModel(**options), weights_of or name)
    gen = stream(name + "/inputs")
    latents = normal(gen, batch, options["in_channels"], *size).requires_grad_()
    hidden = normal(gen, batch, tokens, options["cross_attention_dim"]).requires_grad_()
    timesteps = torch.tensor(timesteps)
    added = {}
    if sizes:  # of the picture: original height and width, crop above and left, target height and width
        width = options["projection_class_embeddings_input_dim"] - 6 * options["addition_time_embed_dim"]
        added = {"text_embeds": normal(gen, batch, width).requires_grad_(), "time_ids": torch.tensor(sizes)}
    grounding = {}
    if objects:  # how many each picture has, of a padded number
        count = max(objects) + 2
        corner, extent = torch.rand(batch, count, 2, generator=gen) * 0.6, torch.rand(batch, count, 2, generator=gen) * 0.3 + 0.1
        grounding = {
            "boxes": torch.cat([corner, corner + extent], 2), "masks": torch.tensor([[float(i < n) for i in range(count)] for n in objects]),
            "positive_embeddings": normal(gen, batch, count, options["cross_attention_dim"]).requires_grad_(),
        }  # fmt: skip
    sample, recorded, order = trace(
        model,
        lambda: model(
            latents, timesteps, encoder_hidden_states=hidden, added_cond_kwargs=added,
            cross_attention_kwargs={"gligen": dict(grounding)} if objects else None,
        ).sample,
        unet_block if blocks else lambda name: False,
    )
    wanted, named = {"latents": latents, "hidden_states": hidden}, dict(model.named_parameters())
    if sizes:
        wanted["pooled"] = added["text_embeds"]
    if objects:
        wanted["phrases"] = grounding["positive_embeddings"]
    chosen = [
        "time_embedding.linear_1.weight", "conv_in.weight", "conv_norm_out.weight",
        "mid_block.resnets.0.time_emb_proj.bias", "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight",
        "mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj.weight", "mid_block.attentions.0.norm.weight",
    ]  # fmt: skip
    chosen += ["add_embedding.linear_1.weight"] if sizes else []
    if objects:
        # a gate's gradient is a sum whose terms cancel; elsewhere diffusers' own float32 is beyond the tolerance
        fuser = "up_blocks.1.attentions.0.transformer_blocks.0.fuser"
        chosen += [f"{fuser}.{one}" for one in ("alpha_attn", "alpha_dense", "linear.weight", "attn.to_k.weight", "norm1.bias")]
        chosen += ["position_net.null_positive_feature", "position_net.null_position_feature", "position_net.linears.0.weight"]
    wanted.update({n: named[n] for n in chosen})
    cotangent, found = vjp(sample, wanted, gen) if gradients else (None, {})
    write(
        name,
        {"class": "UNet2DConditionModel", "config": config_of(model), "weightsOf": weights_of or name, "order": order if blocks else {}},
        weights=None if weights_of else model.state_dict(),
        inputs={
            "latents": latents, "timesteps": timesteps, "hidden_states": hidden,
            **({"pooled": added["text_embeds"], "time_ids": added["time_ids"]} if sizes else {}),
            **({"boxes": grounding["boxes"], "masks": grounding["masks"], "phrases": grounding["positive_embeddings"]} if objects else {}),
            **({"cotangent": cotangent} if gradients else {}),
        },
        outputs={"sample": sample},
        blocks=recorded,
        gradients=found,
    )  # fmt: skip


def unet():
    unet_golden("unet-sd1", SD1, (8, 16), [981, 7])
    unet_golden("unet-sd2", SD2, (6, 10), [3, 999, 500], batch=3)
    unet_golden("unet-emoji", EMOJI, (8, 8), [41, 641])
    unet_golden("unet-mixed-odd", MIXED, (7, 9), [0, 765])
    sizes = [[37.0, 61.0, 5.0, 11.0, 24.0, 40.0], [1024.0, 768.0, 0.0, 0.0, 24.0, 40.0], [512.0, 512.0, 64.0, 3.0, 48.0, 96.0]]
    unet_golden("unet-sdxl", SDXL, (6, 10), [981, 7, 333], batch=3, sizes=sizes)
    # Euler's interpolated timesteps are fractions.
    unet_golden("unet-fractional", SD2, (4, 4), [12.25, 937.5], blocks=False, gradients=False, weights_of="unet-sd2")


VAE = dict(
    in_channels=3, out_channels=3, latent_channels=4, norm_num_groups=4, layers_per_block=1, sample_size=32,
)  # fmt: skip


def vae_golden(name, size, **options):
    depth = len(options["block_out_channels"])
    model = AutoencoderKL(
        **{**VAE, **options},
        down_block_types=("DownEncoderBlock2D",) * depth,
        up_block_types=("UpDecoderBlock2D",) * depth,
    )
    draw(model, name)
    gen = stream(name + "/inputs")
    factor = 2 ** (depth - 1)
    images = normal(gen, 2, 3, *size, std=0.5)
    latents = normal(gen, 2, options.get("latent_channels", 4), size[0] // factor, size[1] // factor).requires_grad_()
    (moments, decoded), recorded, order = trace(
        model,
        lambda: (model.encode(images).latent_dist, model.decode(latents).sample),
        lambda name: "blocks.0." in name or "mid_block" in name,
        without=("Attention",),  # this one holds norm and residual too
    )
    named = dict(model.named_parameters())
    cotangent, gradients = vjp(
        decoded,
        {"latents": latents, **{n: named[n] for n in ("decoder.conv_in.weight", "decoder.mid_block.resnets.0.norm1.weight")}},
        gen,
    )
    write(
        name,
        {"class": "AutoencoderKL", "config": config_of(model), "order": order},
        weights=model.state_dict(),
        inputs={"images": images, "latents": latents, "cotangent": cotangent},
        outputs={"mean": moments.mean, "logvar": moments.logvar, "decoded": decoded},
        blocks=recorded,
        gradients=gradients,
    )


def vae():
    vae_golden("vae-kl", (16, 24), block_out_channels=(8, 8, 16), scaling_factor=0.18215)
    vae_golden(
        "vae-kl-plain", (10, 14), block_out_channels=(8, 16), mid_block_add_attention=False, use_quant_conv=False,
        use_post_quant_conv=False, latent_channels=6, scaling_factor=0.7,
    )  # fmt: skip
    name = "vae-tiny"
    model = draw(
        AutoencoderTiny(
            in_channels=3, out_channels=3, latent_channels=4, encoder_block_out_channels=(8, 8, 8),
            decoder_block_out_channels=(8, 8, 8), num_encoder_blocks=(1, 2, 1), num_decoder_blocks=(2, 1, 1),
            scaling_factor=1.0,
        ),
        name,
    )  # fmt: skip
    gen = stream(name + "/inputs")
    images = normal(gen, 2, 3, 16, 24, std=0.5)
    latents = normal(gen, 2, 4, 4, 6, std=2.0).requires_grad_()
    encoded, decoded = model.encode(images).latents, model.decode(latents).sample
    cotangent, gradients = vjp(decoded, {"latents": latents}, gen)
    write(
        name,
        {"class": "AutoencoderTiny", "config": config_of(model)},
        weights=model.state_dict(),
        inputs={"images": images, "latents": latents, "cotangent": cotangent},
        outputs={"latents": encoded, "decoded": decoded},
        gradients=gradients,
    )
