"""Whole updates of every method, written from the papers, for `npm run crosscheck -- training`.

The model folder is loaded by diffusers and transformers, adapters are PEFT's. An epoch's data: `E.start` [B, C, h, w],
`E.step` [T, B, C, h, w] noise, `E.ids` [B, L], `E.prompt` and `E.group` [B], `E.rewards` [B], `E.order.PASS` [N].
"""

import math
import os

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel

import training_networks as networks


class Model:
    """U-Net and text encoder with adapters, the same without, and the decoder."""

    def __init__(self, q, start, with_lora):
        folder = q["model"]
        self.q = q
        self.unet = UNet2DConditionModel.from_pretrained(os.path.join(folder, "unet"))
        self.text = CLIPTextModel.from_pretrained(os.path.join(folder, "text_encoder"))
        self.base_unet = UNet2DConditionModel.from_pretrained(os.path.join(folder, "unet")).requires_grad_(False)
        self.base_text = CLIPTextModel.from_pretrained(os.path.join(folder, "text_encoder")).requires_grad_(False)
        self.vae = AutoencoderKL.from_pretrained(os.path.join(folder, "vae")).requires_grad_(False)
        self.scheduler = DDIMScheduler.from_pretrained(os.path.join(folder, "scheduler"))
        self.scheduler.set_timesteps(q["steps"])
        self.text.requires_grad_(False)
        self.named = with_lora(self.unet, start, "unet.", q["rank"], q["alpha"], q["targets"])
        if q.get("textTargets"):
            self.named += with_lora(self.text, start, "text.", q["rank"], q["alpha"], q["textTargets"])

    def coefficients(self, step, eta):
        """alpha bar at the step and behind it, and sigma (Song et al. 2021, equations 12 and 16)."""
        s = self.scheduler
        t = int(s.timesteps[step])
        previous = t - s.config.num_train_timesteps // len(s.timesteps)
        bar = s.alphas_cumprod[t].double().item()
        before = (s.alphas_cumprod[previous] if previous >= 0 else s.final_alpha_cumprod).double().item()
        variance = eta**2 * (1 - before) / (1 - bar) * (1 - bar / before)
        return t, bar, before, math.sqrt(variance)

    def noise_of(self, latents, t, ids, guidance, base=False):
        """The predicted noise: u + w (c - u), or the network's own answer where w is 1 for all."""
        unet, text = (self.base_unet, self.base_text) if base else (self.unet, self.text)
        count = len(latents)
        t = t if torch.is_tensor(t) else torch.full((count,), t)
        hidden = text(ids).last_hidden_state
        if guidance == 1:
            return unet(latents, t, encoder_hidden_states=hidden).sample
        empty = text(self.empty.expand(count, -1)).last_hidden_state
        u = unet(latents, t, encoder_hidden_states=empty).sample
        c = unet(latents, t, encoder_hidden_states=hidden).sample
        return u + guidance * (c - u)

    def mean_of(self, latents, noise, step, eta):
        _, bar, before, sigma = self.coefficients(step, eta)
        clean = (latents - math.sqrt(1 - bar) * noise) / math.sqrt(bar)
        return math.sqrt(before) * clean + math.sqrt(1 - before - sigma**2) * noise, sigma

    def draw(self, start, noises, ids, guidance, eta, until=None, base=False):
        """All latents from noise to picture."""
        latents = [start]
        with torch.no_grad():
            for step in range(self.q["steps"] if until is None else until):
                t = int(self.scheduler.timesteps[step])
                noise = self.noise_of(latents[-1], t, ids, guidance, base)
                mean, sigma = self.mean_of(latents[-1], noise, step, eta)
                latents.append(mean + sigma * noises[step] if sigma > 0 else mean)
        return latents

    def pictures(self, latents):
        return (self.vae.decode(latents / self.vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)


def log_prob(sample, mean, sigma):
    """Mean over a latent's elements of log N(sample; mean, sigma^2)."""
    square = (sample.double() - mean.double()).square().flatten(1).mean(1)
    return -square / (2 * sigma**2) - math.log(sigma) - 0.5 * math.log(2 * math.pi)


class PromptStatistics:
    """Black et al. 2023, section 4.3, as in their public code."""

    def __init__(self, size, minimum):
        self.size, self.minimum, self.known = size, minimum, {}

    def advantages(self, prompts, rewards):
        for prompt, reward in zip(prompts, rewards):
            self.known[prompt] = (self.known.get(prompt, []) + [reward])[-self.size :]
        of = lambda values: (sum(values) / len(values), torch.tensor(values).double().std(correction=0).item())
        found = []
        for prompt, reward in zip(prompts, rewards):
            own = self.known[prompt]
            mean, std = of(own) if len(own) >= self.minimum else of(rewards)
            found.append((reward - mean) / (std + 1e-6))
        return found


class Value:
    """DPOK's baseline, fitted to the rewards after it was asked."""

    def __init__(self, q, start, load):
        self.v = networks.ValueNetwork(q["inputs"], q["steps"], q["width"])
        self.named = load(self.v, start, "value.")
        self.optimiser = torch.optim.AdamW(self.v.parameters(), lr=q["learningRate"], weight_decay=0)

    def at(self, latents, pooled, rows, steps):
        x = torch.stack([latents[step][row].flatten() for row, step in zip(rows.tolist(), steps.tolist())])
        return self.v(torch.cat([x, pooled[rows]], 1), steps)

    def fit(self, latents, pooled, rewards, batches):
        for rows, steps in batches:
            loss = F.mse_loss(self.at(latents, pooled, rows, steps), rewards[rows].float())
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()


def policy_gradient(q, start, data, Fit, with_lora, load):
    """DDPO (Black et al. 2023) and DPOK (Fan et al. 2023)."""
    model = Model(q, start, with_lora)
    model.empty = data["empty"]
    fit = Fit(model.named, q["options"])
    statistics = PromptStatistics(q["bufferSize"], q["minimumCount"]) if "bufferSize" in q else None
    value = Value(q["value"], start, load) if "value" in q else None
    losses, norms, scales, unit = [], [], [], None
    for epoch in range(q["epochs"]):
        d = lambda name: data[f"{epoch}.{name}"]
        ids, rewards = d("ids"), d("rewards").tolist()
        latents = model.draw(d("start"), d("step"), ids, q["guidance"], q["eta"])
        old = []
        with torch.no_grad():
            for step in range(q["steps"]):
                noise = model.noise_of(latents[step], int(model.scheduler.timesteps[step]), ids, q["guidance"])
                mean, sigma = model.mean_of(latents[step], noise, step, q["eta"])
                old.append(log_prob(latents[step + 1], mean, sigma))
        if value is None:
            clip = q["advantageClip"]
            flat = statistics.advantages(d("prompt").tolist(), rewards)
            advantages = torch.tensor([[max(-clip, min(clip, a)) for a in flat]] * q["steps"]).double()
        else:
            r = torch.tensor(rewards).double()
            unit = unit or (r.mean().item(), r.std(correction=0).item())
            r = (r - unit[0]) / unit[1]
            with torch.no_grad():
                pooled = model.base_text(ids).pooler_output
                rows = torch.arange(len(r))
                expected = [value.at(latents, pooled, rows, torch.full_like(rows, s)) for s in range(q["steps"])]
            value.fit(latents, pooled, r, list(zip(d("value.rows"), d("value.steps"))))
            advantages = q["rewardWeight"] * (r - torch.stack(expected).double())
        clip = q["clipNats"] / latents[0][0].numel()
        before = len(fit.losses)
        for inner in range(q["innerEpochs"]):
            order = d(f"order.{inner}").tolist()
            each = len(order) // q["updatesPerEpoch"]
            for update in range(q["updatesPerEpoch"]):
                part = order[update * each : (update + 1) * each]
                total, scale = 0, 0
                for step in range(q["steps"]):
                    t = int(model.scheduler.timesteps[step])
                    x = latents[step][part]
                    noise = model.noise_of(x, t, ids[part], q["guidance"])
                    mean, sigma = model.mean_of(x, noise, step, q["eta"])
                    ratio = (log_prob(latents[step + 1][part], mean, sigma) - old[step][part]).exp()
                    a = advantages[step][part]
                    loss = torch.maximum(-a * ratio, -a * ratio.clamp(1 - clip, 1 + clip))
                    scale += a.abs().sum().item()
                    if q["klWeight"] > 0:
                        with torch.no_grad():
                            noise = model.noise_of(x, t, ids[part], q["guidance"], base=True)
                            base, _ = model.mean_of(x, noise, step, q["eta"])
                        kl = (mean.double() - base.double()).square().flatten(1).mean(1) / (2 * sigma**2)
                        loss = loss + q["klWeight"] * kl
                    total = total + loss.sum()
                pairs = len(part) * q["steps"]
                fit.step(total / pairs)
                scales.append(scale / pairs)
        losses.append(mean_of(fit.losses[before:]))
        norms.append(mean_of(fit.norms[before:]))
    more = {n: p.detach().clone() for n, p in value.named} if value else {}
    answer = fit.answer(q["output"], more)
    per_epoch = len(scales) // q["epochs"]
    scales = [mean_of(scales[i * per_epoch : (i + 1) * per_epoch]) for i in range(q["epochs"])]
    return answer | {"losses": losses, "norms": norms, "scales": scales}


def mean_of(values):
    return sum(values) / len(values)


def errors_of(model, latents, timesteps, noise, ids, base=False):
    """Mean square of the predicted noise's error, [N] (Ho et al. 2020, equation 14)."""
    noisy = model.scheduler.add_noise(latents, noise, timesteps)
    answer = model.noise_of(noisy, timesteps, ids, 1, base)
    return (answer - noise).square().flatten(1).mean(1)


def weighted(q, start, data, Fit, with_lora, load):
    """RWR (Lee et al. 2023), RAFT (Dong et al. 2023) and Diffusion-DPO (Wallace et al. 2023) on own pictures."""
    model = Model(q, start, with_lora)
    model.empty = data["empty"]
    fit = Fit(model.named, q["options"])
    for epoch in range(q["epochs"]):
        d = lambda name: data[f"{epoch}.{name}"]
        ids, rewards, groups = d("ids"), d("rewards").double(), d("group").tolist()
        clean = model.draw(d("start"), d("step"), ids, q["guidance"], q["eta"])[-1]
        members = [[i for i, g in enumerate(groups) if g == group] for group in sorted(set(groups))]
        ranked = [sorted(rows, key=lambda i: -rewards[i].item()) for rows in members]
        order = d("order.0").tolist()
        if q["method"] == "dpo":
            pairs = [(rows[0], rows[-1]) for rows in ranked]
            pairs = [pairs[i] for i in order]
            timesteps = torch.tensor([d("pair.timesteps")[w, l].item() for w, l in pairs])
            noise = torch.stack([d("pair.noise")[w, l] for w, l in pairs])
            better, worse = ([pair[i] for pair in pairs] for i in (0, 1))
            e = [errors_of(model, clean[rows], timesteps, noise, ids[rows]) for rows in (better, worse)]
            with torch.no_grad():
                r = [errors_of(model, clean[rows], timesteps, noise, ids[rows], base=True) for rows in (better, worse)]
            inside = -q["beta"] / 2 * ((e[0] - r[0]) - (e[1] - r[1]))
            fit.step(-F.logsigmoid(inside).mean())
            continue
        if q["method"] == "raft":
            rows = [i for ranking in ranked for i in ranking[: q["best"]]]
            weights = torch.ones(len(rows)).double()
        else:
            rows = list(range(len(rewards)))
            standard = (rewards - rewards.mean()) / (rewards.std(correction=0) + 1e-6)
            weights = len(rewards) * (standard / q["temperature"]).softmax(0)
        rows, weights = [rows[i] for i in order], weights[order]
        captions = torch.where(d("dropped")[rows][:, None].bool(), model.empty, ids[rows])
        e = errors_of(model, clean[rows], d("timesteps")[rows], d("noise")[rows], captions)
        fit.step((e * weights.float()).mean())
    return fit.answer(q["output"])


def relabelled(q, start, data, Fit, with_lora, load):
    """IP-RLDF (Ge et al. 2023): pictures that do not match get a true caption and a lower weight; rounds get slower."""
    model = Model(q, start, with_lora)
    model.empty = data["empty"]
    fit = Fit(model.named, q["options"])
    rate = q["options"]["learningRate"]
    for round_ in range(q["rounds"]):
        d = lambda name: data[f"{round_}.{name}"]
        noise = d("start")
        clean = model.draw(noise, None, d("ids"), q["guidance"], 0)[-1].half()  # stored in half precision
        weights = torch.where(d("matches").bool(), 1.0, q["rescale"])
        for epoch in range(q["epochs"]):
            order = d(f"{epoch}.order").tolist()
            for update in range(q["updatesPerEpoch"]):
                first, last = (len(order) * i // q["updatesPerEpoch"] for i in (update, update + 1))
                rows = order[first:last]
                timesteps, noise = d(f"{epoch}.timesteps")[rows], d(f"{epoch}.noise")[rows]
                e = errors_of(model, clean[rows].float(), timesteps, noise, d("captions")[rows])
                fit.options["learningRate"] = rate * q["roundDecay"] ** round_
                fit.step((e * weights[rows]).mean())
    return fit.answer(q["output"])


def reward_gradient(q, start, data, Fit, with_lora, load):
    """AlignProp (Prabhudesai et al. 2023), DRaFT-K and -LV (Clark et al. 2024), ReFL (Xu et al. 2023)."""
    model = Model(q, start, with_lora)
    model.empty = data["empty"]
    fit = Fit(model.named, q["options"])
    steps, eta = q["steps"], q["eta"]

    def reward(latents):
        pictures = model.pictures(latents)
        return (pictures * data["pattern"]).flatten(1).mean(1) + 0.5 * pictures.square().flatten(1).mean(1)

    def clean_of(latents, step, ids, guidance):
        t, bar, _, _ = model.coefficients(step, eta)
        noise = model.noise_of(latents, t, ids, guidance)
        return (latents - math.sqrt(1 - bar) * noise) / math.sqrt(bar)

    if q["method"] == "refl":
        before = model.draw(data["base.start"], None, data["base.ids"], q["guidance"], 0, base=True)[-1]
    for epoch in range(q["epochs"]):
        d = lambda name: data[f"{epoch}.{name}"]
        ids = d("ids")
        if q["method"] in ("alignprop", "draft-k"):
            x = d("start")
            for step in range(steps):
                noise = model.noise_of(x, int(model.scheduler.timesteps[step]), ids, q["guidance"])
                followed = d("followed")[:, step].bool()[:, None, None, None]
                mean, sigma = model.mean_of(x, torch.where(followed, noise, noise.detach()), step, eta)
                x = mean + sigma * d("step")[step] if sigma > 0 else mean
            shown = loss = -reward(x).mean()
        elif q["method"] == "draft-lv":
            x = model.draw(d("start"), d("step"), ids, q["guidance"], eta)[-1]
            t, bar, _, _ = model.coefficients(steps - 1, eta)
            each = []
            for noise in d("again"):
                noised = math.sqrt(bar) * x + math.sqrt(1 - bar) * noise
                each.append(-reward(clean_of(noised, steps - 1, ids, q["guidance"])).mean())
            loss, shown = sum(each) / len(each), each[0]
        else:
            losses = []
            for row, step in enumerate(d("late").tolist()):
                one = slice(row, row + 1)
                x = model.draw(d("start")[one], d("step")[:, one], ids[one], 1, eta, until=step)[-1]
                r = reward(clean_of(x, step, ids[one], 1))
                losses.append(q["rewardScale"] * F.relu(q["rewardTarget"] - r))
            shown = torch.cat(losses).mean()
            index = d("base.index")
            e = errors_of(model, before[index], d("timesteps"), d("noise"), data["base.ids"][index])
            loss = shown + q["pretraining"] * e.mean()
        fit.step(loss, shown)
    return fit.answer(q["output"])


METHODS = (policy_gradient, weighted, relabelled, reward_gradient)
