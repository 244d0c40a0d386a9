"""TRL's side of `npm run crosscheck -- trl`: one JSON question a line, one JSON answer a line.

{"ask": "ddpo" or "alignprop", "model": FOLDER, "config": {...}, "start": FILE, "data": FILE, "output": FILE, ...}
    -> {"losses": [...], "norms": [...], "scales": [...], "more": {...}, "silent": [...]}, and the weights at the end in
       the output file. All lists have one number an epoch of the other side, the mean over its updates.

TRL's trainers run as they are, on TRL's own pipeline. What would be drawn at random is handed in where TRL asks for it:
noise (`randn_tensor`), the order of pictures and of timesteps (`torch.randperm`), the truncation (`random.randint`).
An epoch's data: `E.start` [B, C, h, w], `E.step` [T, B, C, h, w] noise, `E.prompt` [B]; DDPO: `E.rewards` [B] and for
each pass `E.order.PASS` [B], `E.steps.PASS` [B, T] (the trained ones first); AlignProp: `E.order.0`, `E.followed` [B, T].
"""

import os
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore")

import torch
from accelerate import PartialState
from answering import answer_all
from safetensors.torch import load_file, save_file

state = PartialState()  # TRL logs before it makes its own

import diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion as diffusers_pipeline
import trl
import trl.models.modeling_sd_base as trl_pipeline
from trl import AlignPropConfig, AlignPropTrainer, DDPOConfig, DDPOTrainer, DefaultDDPOStableDiffusionPipeline


class Given:
    """What is handed out next, in order; a request of another size is a mistake of this file."""

    def __init__(self):
        self.noises, self.orders, self.limits, self.prompts, self.rewards = [], [], [], [], []

    def noise(self, shape, *_, **__):
        noise = self.noises.pop(0)
        if tuple(shape) != tuple(noise.shape):
            raise ValueError(f"noise of {tuple(shape)} is asked for, {tuple(noise.shape)} is next")
        return noise

    def order(self, count, **_):
        order = self.orders.pop(0)
        if count != len(order):
            raise ValueError(f"an order of {count} is asked for, one of {len(order)} is next")
        return torch.tensor(order)

    def randint(self, low, high):
        limit = self.limits.pop(0)
        if not low <= limit <= high:
            raise ValueError(f"a number of {low} to {high} is asked for, {limit} is next")
        return limit

    def is_used_up(self):
        return not (self.noises or self.orders or self.limits or self.prompts or self.rewards)

    def __enter__(self):
        self.before = (diffusers_pipeline.randn_tensor, trl_pipeline.randn_tensor, torch.randperm, trl_pipeline.random)
        diffusers_pipeline.randn_tensor = trl_pipeline.randn_tensor = self.noise
        torch.randperm = self.order
        trl_pipeline.random = self
        return self

    def __exit__(self, *_):
        diffusers_pipeline.randn_tensor, trl_pipeline.randn_tensor, torch.randperm, trl_pipeline.random = self.before


class Watched:
    """A trainer's updates: what it logs, the gradients' norms, and the weights by the other side's names."""

    def __init__(self, trainer, start):
        self.trainer = trainer
        self.named = {
            "unet." + name.replace(".default.", "."): parameter
            for name, parameter in trainer.sd_pipeline.unet.named_parameters()
            if parameter.requires_grad
        }
        if set(self.named) != set(start):
            raise ValueError(f"other weights learn here: {sorted(set(self.named) ^ set(start))[:4]}")
        with torch.no_grad():
            for name, parameter in self.named.items():
                parameter.copy_(start[name])
        self.loudest = dict.fromkeys(self.named, 0.0)
        self.logged, self.norms = [], []
        log, clip = trainer.accelerator.log, trainer.accelerator.clip_grad_norm_

        def logging(values, **kwargs):
            if "loss" in values:
                self.logged.append({name: float(value) for name, value in values.items()})
            return log(values, **kwargs)

        def clipping(parameters, limit, **kwargs):
            norms = {n: p.grad.double().norm().item() for n, p in self.named.items() if p.grad is not None}
            total = sum(norm**2 for norm in norms.values()) ** 0.5
            for name, norm in norms.items():
                self.loudest[name] = max(self.loudest[name], norm / total)
            self.norms.append(float(clip(parameters, limit, **kwargs)))

        trainer.accelerator.log, trainer.accelerator.clip_grad_norm_ = logging, clipping

    def means(self, values, each):
        return [sum(values[i : i + each]) / each for i in range(0, len(values), each)]

    def answer(self, output, each, losses, scales, more):
        save_file({name: p.detach().contiguous().clone() for name, p in self.named.items()}, output)
        return {
            "losses": self.means(losses, each),
            "norms": self.means(self.norms, each),
            "scales": self.means(scales, each),
            "more": {name: self.means(values, each) for name, values in more.items()},
            "silent": [name for name, loud in self.loudest.items() if loud < 1e-6],
        }


def epoch_of(data, epoch):
    return lambda name: data[f"{epoch}.{name}"]


def noises_of(d, rows, batch):
    """As the sampler asks for them: of each batch the start, then every step."""
    return [
        noise
        for i in range(0, len(rows), batch)
        for noise in (d("start")[rows[i : i + batch]], *(step[rows[i : i + batch]] for step in d("step")))
    ]


def ddpo(q, start, data):
    config = DDPOConfig(log_with=None, mixed_precision="no", allow_tf32=False, save_freq=10**9, **q["config"])
    given = Given()
    trainer = DDPOTrainer(
        config,
        lambda images, prompts, metadata: (torch.stack([given.rewards.pop(0) for _ in prompts]), {}),
        lambda: (q["prompts"][given.prompts.pop(0)], {}),
        DefaultDDPOStableDiffusionPipeline(q["model"], use_lora=q["lora"]),
    )
    trainer.sd_pipeline.set_progress_bar_config(disable=True)
    watched = Watched(trainer, start)
    sizes = []
    calculate = trainer.calculate_loss

    def calculating(latents, timesteps, next_latents, log_probs, advantages, embeds):
        sizes.append(advantages.clamp(-config.train_adv_clip_max, config.train_adv_clip_max).abs().mean().item())
        return calculate(latents, timesteps, next_latents, log_probs, advantages, embeds)

    trainer.calculate_loss = calculating
    for epoch in range(q["epochs"]):
        d = epoch_of(data, epoch)
        rows = list(range(len(d("rewards"))))
        given.prompts, given.rewards = d("prompt").tolist(), list(d("rewards"))
        given.noises = noises_of(d, rows, config.sample_batch_size)
        # each pass shuffles what the pass before left
        lying, steps = rows, [list(range(config.sample_num_steps)) for _ in rows]
        for pass_ in range(config.train_num_inner_epochs):
            wanted, wanted_steps = d(f"order.{pass_}").tolist(), d(f"steps.{pass_}").tolist()
            given.orders.append([lying.index(row) for row in wanted])
            given.orders += [[steps[row].index(step) for step in wanted_steps[row]] for row in wanted]
            lying, steps = wanted, wanted_steps
        with given:
            trainer.step(epoch, epoch)
        if not given.is_used_up():
            raise ValueError(f"epoch {epoch}: TRL did not ask for all that was prepared")
    logged = watched.logged
    each = len(logged) // q["epochs"]
    losses = [values["loss"] for values in logged]
    scales = watched.means(sizes, len(sizes) // len(logged))
    more = {
        "approximate KL": [values["approx_kl"] for values in logged],
        "share that is clipped": [values["clipfrac"] for values in logged],
        "mean size of an advantage": scales,
    }
    return watched.answer(q["output"], each, losses, scales, more)


def alignprop(q, start, data):
    config = AlignPropConfig(log_with=None, mixed_precision="no", allow_tf32=False, save_freq=10**9, **q["config"])
    given = Given()

    def reward(images, prompts, metadata):
        return (images * data["pattern"]).flatten(1).mean(1) + 0.5 * images.square().flatten(1).mean(1), {}

    trainer = AlignPropTrainer(
        config,
        reward,
        lambda: (q["prompts"][given.prompts.pop(0)], {}),
        DefaultDDPOStableDiffusionPipeline(q["model"], use_lora=q["lora"]),
    )
    trainer.sd_pipeline.set_progress_bar_config(disable=True)
    watched = Watched(trainer, start)
    batch, steps = config.train_batch_size, config.sample_num_steps
    pictures = batch * config.train_gradient_accumulation_steps  # of an update, which TRL calls an epoch
    updates = 0
    for epoch in range(q["epochs"]):
        d = epoch_of(data, epoch)
        order = d("order.0").tolist()
        for first in range(0, len(order), pictures):
            rows = order[first : first + pictures]
            given.prompts = [d("prompt")[row].item() for row in rows]
            given.noises = noises_of(d, rows, batch)
            if config.truncated_backprop_rand:  # of a batch of one: a step is cut off below the number that is drawn
                given.limits = [0 if d("followed")[row][i] else steps for row in rows for i in range(steps)]
            with given:
                trainer.step(updates, updates)
            updates += 1
            if not given.is_used_up():
                raise ValueError(f"epoch {epoch}: TRL did not ask for all that was prepared")
    each = updates // q["epochs"]
    # TRL's loss is 10 - mean reward, whose last bit is 1e-6; what it is computed from is compared
    losses = [-values["reward_mean"] for values in watched.logged]
    for loss, values in zip(losses, watched.logged):
        if abs(10 + loss - values["loss"]) > 1e-5:
            raise ValueError(f"TRL's loss is {values['loss']}, not 10 - {-loss}")
    return watched.answer(q["output"], each, losses, [abs(loss) for loss in losses], {})


def hello(_, __, ___):
    return {"trl": trl.__version__, "torch": torch.__version__}


ANSWERS = {answer.__name__: answer for answer in (hello, ddpo, alignprop)}


def answer(question):
    start, data = (load_file(question[name]) if name in question else {} for name in ("start", "data"))
    return ANSWERS[question["ask"]](question, start, data)


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    answer_all(answer)
