"""TRL's side of `npm run bench -- ddpo`: one JSON question a line, one JSON answer a line.

{"ask": "hello"}                                      -> {"trl": version, "threads": n}
{"ask": "prepare", "model": FOLDER, "threads": n, ...} -> {"parameters": n}: a DDPOTrainer with the recipe's settings
{"ask": "epoch", "prompts": [...]}                    -> {"sampling": s, "update": s, "epoch": s}
{"ask": "evaluate", "lora": FILE, "batch": FILE}      -> {"logProbs": [T][B], "losses": [T], "gradient": FILE}
{"ask": "memory"}                                     -> {"peak": bytes}: resident at most since the first epoch
"""

import io
import os
import time
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore")

import torch
from accelerate import PartialState
from answering import answer_all
from peft import LoraConfig
from PIL import Image
from safetensors.torch import load_file, save_file

state = PartialState()  # TRL logs before it makes its own

import trl
from trl import DDPOConfig, DDPOTrainer, DefaultDDPOStableDiffusionPipeline


class Pipeline(DefaultDDPOStableDiffusionPipeline):
    """TRL's own pipeline, with the recipe's LoRA in place of the built-in rank 4 on the attention."""

    def __init__(self, question):
        super().__init__(question["model"], use_lora=True)
        self.question = question

    def get_trainable_layers(self):
        config = LoraConfig(
            r=self.question["rank"],
            lora_alpha=self.question["alpha"],
            init_lora_weights="gaussian",
            target_modules=self.question["targets"],
        )
        self.sd_pipeline.unet.add_adapter(config)
        return self.sd_pipeline.unet


def compressibility(images, prompts, metadata):
    """Minus the kB of each picture as a JPEG of quality 95."""
    pictures = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    sizes = []
    for picture in pictures:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, format="JPEG", quality=95)
        sizes.append(-file.tell() / 1000)
    return torch.tensor(sizes), {}


class Trainer(DDPOTrainer):
    """DDPOTrainer with a clock around its two halves."""

    def _generate_samples(self, *args, **kwargs):
        start = time.perf_counter()
        result = super()._generate_samples(*args, **kwargs)
        self.seconds["sampling"] += time.perf_counter() - start
        return result

    def _train_batched_samples(self, *args, **kwargs):
        start = time.perf_counter()
        result = super()._train_batched_samples(*args, **kwargs)
        self.seconds["update"] += time.perf_counter() - start
        return result


def make_trainer(question):
    config = DDPOConfig(
        seed=question["seed"],
        log_with=None,
        mixed_precision="no",
        allow_tf32=False,
        sample_num_steps=question["steps"],
        sample_eta=question["eta"],
        sample_guidance_scale=question["guidanceScale"],
        sample_batch_size=question["sampleBatch"],
        sample_num_batches_per_epoch=question["sampleBatches"],
        train_batch_size=question["trainBatch"],
        train_gradient_accumulation_steps=question["accumulation"],
        train_learning_rate=question["learningRate"],
        train_adam_weight_decay=question["weightDecay"],
        train_max_grad_norm=question["maxGradNorm"],
        train_adv_clip_max=question["advantageClip"],
        train_clip_range=question["clipRange"],
        train_timestep_fraction=question["timestepFraction"],
        train_num_inner_epochs=question["innerEpochs"],
        per_prompt_stat_tracking=True,
        per_prompt_stat_tracking_buffer_size=question["bufferSize"],
        per_prompt_stat_tracking_min_count=question["minimumCount"],
        negative_prompts=question["negativePrompt"],
        save_freq=10**9,
    )
    prompts = []

    def next_prompt():
        return prompts.pop(0), {}

    made = Trainer(config, compressibility, next_prompt, Pipeline(question))
    made.prompts = prompts
    made.sd_pipeline.set_progress_bar_config(disable=True)
    return made


def evaluate(trainer, question):
    """Log-probabilities, losses and the gradient of a given batch, by TRL's own calculate_loss."""
    lora = load_file(question["lora"])
    trained = {n: p for n, p in trainer.sd_pipeline.unet.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(lora[name.replace(".default.", ".")])
    batch = load_file(question["batch"])
    pipeline = trainer.sd_pipeline
    pipeline.sd_pipeline.scheduler.set_timesteps(trainer.config.sample_num_steps)
    ids = pipeline.tokenizer(
        question["prompts"],
        return_tensors="pt",
        padding="max_length",
        truncation=True,
        max_length=pipeline.tokenizer.model_max_length,
    ).input_ids
    with torch.no_grad():
        positive = pipeline.text_encoder(ids)[0]
    count = len(question["prompts"])
    embeds = torch.cat([trainer.neg_prompt_embed.detach().repeat(count, 1, 1), positive])
    log_probs, losses = [], []
    inner = pipeline.scheduler_step

    def spy(*args, **kwargs):
        output = inner(*args, **kwargs)
        log_probs.append(output.log_probs.detach().tolist())
        return output

    pipeline.scheduler_step = spy
    pipeline.unet.train()
    for step, timestep in enumerate(question["timesteps"]):
        loss, _, _ = trainer.calculate_loss(
            batch["latents"][step],
            torch.full((count,), timestep),
            batch["latents"][step + 1],
            batch["logProbs"][step],
            batch["advantages"],
            embeds,
        )
        loss.backward()
        losses.append(loss.item())
    gradient = {n.replace(".default.", "."): p.grad.contiguous() for n, p in trained.items()}
    save_file(gradient, question["batch"] + ".gradient")
    return {"logProbs": log_probs, "losses": losses, "gradient": question["batch"] + ".gradient"}


def peak():
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    raise RuntimeError("no VmHWM")


trainer = None
epochs = 0


def answer(question):
    global trainer, epochs
    ask = question["ask"]
    if ask == "hello":
        return {"trl": trl.__version__, "threads": torch.get_num_threads()}
    if ask == "memory":
        return {"peak": peak()}
    if ask == "prepare":
        torch.set_num_threads(question["threads"])
        trainer = make_trainer(question)
        return {"parameters": sum(p.numel() for p in trainer.sd_pipeline.unet.parameters() if p.requires_grad)}
    if ask == "evaluate":
        return evaluate(trainer, question)
    trainer.prompts.extend(question["prompts"])
    trainer.seconds = {"sampling": 0.0, "update": 0.0}
    start = time.perf_counter()
    trainer.step(epochs, epochs)
    seconds = {**trainer.seconds, "epoch": time.perf_counter() - start}
    if epochs == 0:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    epochs += 1
    return seconds


answer_all(answer)
