"""The clients' side of `npm run crosscheck -- single-files,hub`: one JSON question a line, one JSON answer a line."""

import os
import subprocess
import sys

import quiet  # noqa: F401, first

import torch
from answering import answer_all
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiffusionPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

PARTS = ("unet", "vae", "text_encoder", "text_encoder_2")


def towered(name):
    """With `text_model.`, which transformers 5 leaves out of the bare tower's names."""
    return f"text_model.{name}" if name.startswith(("embeddings.", "encoder.", "final_layer_norm.")) else name


def loaded(question):
    if "file" not in question:
        return DiffusionPipeline.from_pretrained(question["model"], cache_dir=question.get("cache"))
    kind = StableDiffusionXLPipeline if question["kind"] == "xl" else StableDiffusionPipeline
    return kind.from_single_file(question["file"], config=question["model"], local_files_only=True)


def weights(question):
    """All weights of a model, from a folder, the cache or a single file, and the pictures that it draws."""
    pipe = loaded(question)
    pipe.set_progress_bar_config(disable=True)
    tensors = {}
    for part in PARTS:
        network = getattr(pipe, part, None)
        if network is not None:
            for name, value in network.state_dict().items():
                if not name.endswith("position_ids"):
                    own = towered(name) if part.startswith("text") else name
                    tensors[f"{part}.{own}"] = value.clone()
    save_file(tensors, question["output"])
    if "latents" not in question:
        return {"tensors": len(tensors)}
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    with torch.no_grad():
        pictures = pipe(
            prompt=question["prompts"], negative_prompt=[question["negative"]] * len(question["prompts"]),
            latents=load_file(question["latents"])["latents"], num_inference_steps=question["steps"],
            guidance_scale=question["guidance"], eta=0.0, output_type="np", height=question["size"][0], width=question["size"][1],
        ).images  # fmt: skip
    pictures = torch.from_numpy((pictures * 255).round().astype("uint8")).contiguous()
    save_file({"images": pictures}, question["pictures"])
    return {"tensors": len(tensors)}


def write_original(question):
    """A narrow model with the levels of the real one, as diffusers saves it; then its own script makes one file of it."""
    torch.manual_seed(5)
    kind, folder = question["kind"], question["folder"]
    tokenizer = CLIPTokenizer.from_pretrained(question["tokenizer"])
    cross, up, down = 64, "CrossAttnUpBlock2D", "CrossAttnDownBlock2D"
    text = dict(vocab_size=49408, intermediate_size=128, num_attention_heads=1, max_position_embeddings=77)
    layers = 23 if kind == "sd2" else 2
    act = "gelu" if kind == "sd2" else "quick_gelu"
    text_encoder = CLIPTextModel(CLIPTextConfig(hidden_size=64, num_hidden_layers=layers, hidden_act=act, **text))
    xl = {}
    if kind == "xl":
        second = CLIPTextConfig(hidden_size=128, num_hidden_layers=3, hidden_act="gelu", projection_dim=128, **text)
        second.num_attention_heads = 2
        xl = {"text_encoder_2": CLIPTextModelWithProjection(second), "tokenizer_2": tokenizer}
        unet = UNet2DConditionModel(
            sample_size=16, block_out_channels=(64, 64, 128), cross_attention_dim=cross + 128, attention_head_dim=(1, 1, 2),
            down_block_types=("DownBlock2D", down, down), up_block_types=(up, up, "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 3), use_linear_projection=True, addition_embed_type="text_time",
            addition_time_embed_dim=8, projection_class_embeddings_input_dim=128 + 48,
        )  # fmt: skip
    else:
        first = kind == "sd1"
        unet = UNet2DConditionModel(
            sample_size=16, block_out_channels=(32, 64, 64, 64) if first else (64, 64, 128, 128), cross_attention_dim=cross,
            attention_head_dim=8 if first else (1, 1, 2, 2), use_linear_projection=not first,
            down_block_types=(down, down, down, "DownBlock2D"), up_block_types=("UpBlock2D", up, up, up),
        )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(32, 32, 64, 64), layers_per_block=2, down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, latent_channels=4, sample_size=128,
    )  # fmt: skip
    networks = [unet, vae, text_encoder] + ([xl["text_encoder_2"]] if xl else [])
    with torch.no_grad():
        for network in networks:
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.02)
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1,
    )  # fmt: skip
    common = dict(vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler)
    if xl:
        pipe = StableDiffusionXLPipeline(**common, **xl)
    else:
        pipe = StableDiffusionPipeline(**common, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    pipe.save_pretrained(folder)
    for part in ("text_encoder", "text_encoder_2"):  # the scripts know the names of transformers 4
        path = os.path.join(folder, part, "model.safetensors")
        if os.path.exists(path):
            save_file({towered(name): value for name, value in load_file(path).items()}, path, {"format": "pt"})
    name = "sdxl" if xl else "stable_diffusion"
    script = os.path.join(os.environ["DIFFUSERS_SCRIPTS"], f"convert_diffusers_to_original_{name}.py")
    command = [sys.executable, script, "--model_path", folder, "--checkpoint_path", question["file"], "--use_safetensors"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return {}


def cached(question):
    """What huggingface_hub says of a cache that somebody else filled."""
    from huggingface_hub import scan_cache_dir, snapshot_download

    info = scan_cache_dir(question["cache"])
    folder = snapshot_download(question["repo"], cache_dir=question["cache"], local_files_only=True)
    (repo,) = info.repos
    (revision,) = repo.revisions
    return {
        "warnings": [str(warning) for warning in info.warnings], "repo": repo.repo_id, "type": repo.repo_type,
        "refs": sorted(revision.refs), "commit": revision.commit_hash, "bytes": repo.size_on_disk,
        "files": sorted(str(file.file_path.relative_to(revision.snapshot_path)) for file in revision.files),
        "folder": folder,
    }  # fmt: skip


def download(question):
    """Fills a cache from a hub, in a process that is not offline."""
    code = "import sys, huggingface_hub as h; print(h.snapshot_download(sys.argv[1], ignore_patterns=['*.bin', 'other/*']))"
    env = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": question["endpoint"], "HF_HUB_CACHE": question["cache"]}
    env = {**env, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    done = subprocess.run([sys.executable, "-c", code, question["repo"]], env=env, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-2000:])
    return {"folder": done.stdout.strip().splitlines()[-1]}


ANSWERS = {answer.__name__: answer for answer in (weights, write_original, cached, download)}

answer_all(lambda question: ANSWERS[question["ask"]](question))
