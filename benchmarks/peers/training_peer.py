"""PyTorch's side of `npm run crosscheck -- training`: one JSON question a line, one JSON answer a line.

{"ask": NETWORK or METHOD, "start": FILE, "data": FILE, "output": FILE, "options": {...}, ...}
    -> {"losses": [...], "norms": [...], "scales": [...], "silent": [...]}, and the weights at the end in the output file

Networks come from diffusers, transformers and peft where these have them, from training_networks.py else; losses are
computed here. What comes from the other side are data, noise, timesteps and the weights to start from.
"""

import math
import os

import quiet  # noqa: F401, first

import torch
import torch.nn.functional as F
from answering import answer_all
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from peft import LoraConfig, inject_adapter_in_model
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel

import training_methods as methods
import training_networks as networks


def load(network, start, prefix=""):
    """Start weights under our names; transformers 5 leaves out a bare tower's own. Returns [(our name, parameter)]."""
    own = [name for name, _ in network.named_parameters()]
    names = {name: name if prefix + name in start else f"text_model.{name}" for name in own}
    missing = [name for name, ours in names.items() if prefix + ours not in start]
    if missing:
        raise ValueError(f"no start for {missing}")
    network.load_state_dict({name: start[prefix + ours] for name, ours in names.items()}, strict=False)
    return [(prefix + names[name], parameter) for name, parameter in network.named_parameters()]


def with_lora(network, start, prefix, rank, alpha, targets):
    """PEFT's branches on a network; returns [(our name, parameter)] of them."""
    network.requires_grad_(False)
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets), network)
    named = []
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if ".lora_" not in name:
                continue
            ours = prefix + name.replace(".default.", ".")
            ours = ours if ours in start else ours.replace(prefix, f"{prefix}text_model.", 1)
            parameter.copy_(start[ours])
            parameter.requires_grad_(True)
            named.append((ours, parameter))
    return named


def strip(tensors, prefix):
    return {name[len(prefix) :]: one for name, one in tensors.items() if name.startswith(prefix)}


class Fit:
    """torch.optim.AdamW with a clip, a schedule and an average, as any PyTorch training has them."""

    def __init__(self, named, options, rates=None):
        self.named, self.options = named, options
        self.parameters = [p for _, p in named]
        rates = rates or [1.0] * len(named)
        self.rates = rates
        self.optimiser = torch.optim.AdamW(
            [{"params": [p], "lr": options["learningRate"]} for p in self.parameters],
            betas=tuple(options["betas"]),
            weight_decay=options["weightDecay"],
        )
        self.average = [p.detach().clone() for p in self.parameters]
        self.losses, self.norms, self.step_count = [], [], 0
        self.loudest = [0.0] * len(named)

    def schedule(self, step):
        """Linear warm-up; meanwhile and afterwards half a cosine down to a floor over the last share of the updates."""
        o = self.options
        if "warmup" not in o:
            return 1.0
        rise = min(1.0, (step + 1) / o["warmup"])
        start = o["steps"] * (1 - o["decay"])
        if step < start:
            return rise
        progress = min(1.0, (step - start) / (o["steps"] - start))
        return rise * (o["floor"] + (1 - o["floor"]) * 0.5 * (1 + math.cos(math.pi * progress)))

    def step(self, loss, shown=None):
        """Backward, clip, one update. `shown` is reported instead of the loss."""
        loss.backward()
        self.losses.append((loss if shown is None else shown).item())
        self.apply()

    def apply(self):
        total = math.sqrt(sum(p.grad.double().square().sum().item() for p in self.parameters if p.grad is not None))
        for i, parameter in enumerate(self.parameters):
            if parameter.grad is not None and total > 0:
                self.loudest[i] = max(self.loudest[i], parameter.grad.double().norm().item() / total)
        limit = self.options.get("maxGradNorm")
        if limit is not None:
            self.norms.append(torch.nn.utils.clip_grad_norm_(self.parameters, limit).item())
        for group, rate in zip(self.optimiser.param_groups, self.rates):
            group["lr"] = self.options["learningRate"] * rate * self.schedule(self.step_count)
        self.optimiser.step()
        self.optimiser.zero_grad()
        if "emaDecay" in self.options:
            decay = min(self.options["emaDecay"], (1 + self.step_count) / (10 + self.step_count))
            for averaged, parameter in zip(self.average, self.parameters):
                averaged.mul_(decay).add_(parameter.detach(), alpha=1 - decay)
        self.step_count += 1

    def run(self, loss_of):
        narrow = self.options.get("precision") == "bfloat16"
        for step in range(self.options["steps"]):
            with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
                loss = loss_of(step)
            self.step(loss)
        return self

    def answer(self, output, more=None):
        tensors = {n: p.detach().contiguous().clone() for n, p in self.named}
        if "emaDecay" in self.options:
            tensors |= {f"average of {n}": a for (n, _), a in zip(self.named, self.average)}
        save_file(tensors | (more or {}), output)
        # the gradient of a key's bias, for one, is zero: softmax does not see it, and what is computed is rounding
        silent = [n for (n, _), loud in zip(self.named, self.loudest) if loud < 1e-6]
        return {"losses": self.losses, "norms": self.norms, "silent": silent}


def noise_schedule(config):
    """sqrt(alpha bar) and sqrt(1 - alpha bar) as diffusers has them."""
    return DDIMScheduler.from_config(config)


def pretraining(q, start, data):
    """The U-Net and, if it learns, the text encoder: noised latents, the clean ones or the noise to be told."""
    scheduler = noise_schedule(q["scheduler"])
    unet = UNet2DConditionModel.from_config(q["unet"])
    text = CLIPTextModel(CLIPTextConfig(**q["text"]))
    unet_named, text_named = load(unet, start, "unet."), load(text, start, "text.")
    train_unet, train_text = q["trained"]
    named, rates = [], []
    unet.requires_grad_(train_unet == "full")
    text.requires_grad_(train_text == "full")
    for network, own, prefix, how, rate in (
        (unet, unet_named, "unet.", train_unet, 1.0),
        (text, text_named, "text.", train_text, q.get("textRate", 1.0)),
    ):
        if how == "gated":  # GLIGEN's layers
            own = [(n, p) for n, p in own if ".fuser." in n or n.startswith("unet.position_net.")]
            for _, parameter in own:
                parameter.requires_grad_(True)
        if how == "lora":
            own = with_lora(network, start, prefix, **q["lora"])
        if how != "none":
            named += own
            rates += [rate] * len(own)
    head = torch.nn.Linear(text.config.hidden_size, 3)  # right or left, below or above, how many
    if "layoutWeight" in q:
        named += [("head.layout." + n, p) for n, p in load(head, strip(start, "head.layout."))]
        rates += [1.0, 1.0]
    low, high = q.get("snrBounds", (1, 1))
    bar = scheduler.alphas_cumprod.double()

    def loss_of(step):
        d = {k: data[f"{step}.{k}"] for k in ("latents", "noise", "ids", "timesteps")}
        noisy = scheduler.add_noise(d["latents"], d["noise"], d["timesteps"])
        hidden = text(d["ids"]).last_hidden_state
        grounding = None
        if "phrases" in data:
            told = {k: data[f"{step}.{k}"] for k in ("boxes", "masks")}
            with torch.no_grad():
                phrases = text(data["phrases"]).pooler_output[data[f"{step}.rows"]] * told["masks"][..., None]
            grounding = {"gligen": {**told, "positive_embeddings": phrases}}
            noisy = data[f"{step}.noisy"]
            looks = watch(unet) if "attentionWeight" in q else []
        answer = unet(noisy, d["timesteps"], encoder_hidden_states=hidden, cross_attention_kwargs=grounding).sample.float()
        snr = bar[d["timesteps"]] / (1 - bar[d["timesteps"]])
        clamped = snr.clamp(low, high)
        # min-SNR: the clean sample's error counts that much, whatever is predicted
        if scheduler.config.prediction_type == "sample":
            target, weight = d["latents"], clamped
        elif scheduler.config.prediction_type == "epsilon":
            target, weight = d["noise"], clamped / snr
        else:
            target, weight = scheduler.get_velocity(d["latents"], d["noise"], d["timesteps"]), clamped / (snr + 1)
        if q.get("plain"):
            weight = torch.ones_like(weight)
        loss = ((answer - target).square().flatten(1).mean(1) * weight.float()).mean()
        if "attentionWeight" in q:
            return loss + q["attentionWeight"] * attention_loss(looks, told)
        if "layoutWeight" not in q:
            return loss
        layout = {k: data[f"{step}.{k}"] for k in ("token", "target", "told", "heard")}
        rows = torch.arange(len(hidden))
        said = head(hidden[rows, layout["token"][:, 0]]).float()
        counted = (layout["told"] * layout["heard"]).bool()[:, 0]  # of captions that tell a place or a number, and were heard
        error = F.mse_loss(said[counted], layout["target"][counted]) if counted.any() else 0 * said.sum()
        return loss + q["layoutWeight"] * error

    return Fit(named, q["options"], rates).run(loss_of).answer(q["output"])


def watch(unet):
    """How the first head of every gated layer divides its attention in the next pass; what attends is a constant."""
    looks, hooks = [], {}

    def look(fuser, inputs):
        x, objects = inputs
        both = fuser.norm1(torch.cat([x.detach(), fuser.linear(objects)], 1))
        width = both.shape[2] // fuser.attn.heads
        query = fuser.attn.to_q(both[:, : x.shape[1]])[..., :width]
        key = fuser.attn.to_k(both)[..., :width]
        looks.append((query @ key.transpose(1, 2) / width**0.5).softmax(2))
        hooks.pop(fuser).remove()

    for block in unet.modules():
        if getattr(block, "fuser", None) is not None:
            hooks[block.fuser] = block.fuser.register_forward_pre_hook(look)
    return looks


def attention_loss(looks, told):
    """Cross-entropy to what boxes cover of each place; places outside are to attend to places."""
    losses = []
    for shares in looks:
        places = shares.shape[1]
        side = round(places**0.5)
        low = torch.arange(side) / side
        left, top, right, bottom = told["boxes"][:, :, None].unbind(3)  # [B, N, 1]
        over = lambda a, b: (torch.minimum(low + 1 / side, b) - torch.maximum(low, a)).clamp(min=0) * side
        cover = over(top, bottom)[..., :, None] * over(left, right)[..., None, :] * told["masks"][:, :, None, None]
        cover = cover.flatten(2).transpose(1, 2)  # [B, places, N]
        cover = cover / cover.sum(2, keepdim=True).clamp(min=1)
        objects, none = shares[:, :, places:].log(), shares[:, :, :places].sum(2).log()
        losses.append(-((cover * objects).sum(2) + (1 - cover.sum(2)) * none).mean())
    return sum(losses) / len(losses)


def autoencoder(q, start, data):
    vae = AutoencoderKL.from_config(q["vae"])
    named = [(n, p) for n, p in load(vae, start) if n.startswith(q["half"] + ".")]
    vae.requires_grad_(False)
    for _, parameter in named:
        parameter.requires_grad_(True)

    def loss_of(step):
        if q["half"] == "decoder":
            error = vae.decode(data[f"{step}.noisy"]).sample.float() - data[f"{step}.images"]
            return error.abs().mean() + error.square().mean()
        found = vae.encode(data[f"{step}.images"]).latent_dist
        return F.mse_loss(found.mean.float(), data[f"{step}.latents"]) + 1e-3 * (
            found.logvar.float() + 8
        ).square().mean()

    return Fit(named, q["options"]).run(loss_of).answer(q["output"])


def clip_of(config, start, prefix=""):
    clip = CLIPModel(CLIPConfig(**config))
    return clip, load(clip, start, prefix)


def clip(q, start, data):
    model, named = clip_of(q["clip"], start)

    def loss_of(step):
        ids = data[f"{step}.ids"]
        mask = torch.ones_like(ids)
        return model(
            input_ids=ids, attention_mask=mask, pixel_values=data[f"{step}.images"], return_loss=True
        ).loss.float()

    return Fit(named, q["options"]).run(loss_of).answer(q["output"])


def detector(q, start, data):
    network = getattr(networks, q["class"])(q["labels"])
    named = load(network, start)

    def loss_of(step):
        d = {k: data[f"{step}.{k}"] for k in ("objectness", "cells", "labels", "distances")}
        return networks.detection_loss(network(data[f"{step}.images"]), *d.values())

    return Fit(named, q["options"]).run(loss_of).answer(q["output"])


def noun_classifier(q, start, data):
    network = networks.NounClassifier(q["nouns"])
    named = load(network, start)

    def loss_of(step):
        return F.cross_entropy(network(data[f"{step}.images"]).float(), data[f"{step}.labels"])

    return Fit(named, q["options"]).run(loss_of).answer(q["output"])


def scene_classifier(q, start, data):
    network = networks.SceneClassifier(q["heads"])
    named = load(network, start)

    def loss_of(step):
        found = network(data[f"{step}.images"])
        # of several nouns each is right by its share: cross-entropy with probabilities
        loss = F.cross_entropy(found["noun"].float(), data[f"{step}.nouns"])
        for head in ("style", "background", "art"):
            loss = loss + F.cross_entropy(found[head].float(), data[f"{step}.{head}"])
        return loss

    return Fit(named, q["options"]).run(loss_of).answer(q["output"])


def resnet18(q, start, data):
    network = networks.ResNet18(q["classes"], q["width"])
    named = load(network, start)
    network.train()
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])

    def loss_of(step):
        pictures = data[f"{step}.images"].float() / 255  # [B, H, W, 3]
        x = ((pictures - mean) / deviation).permute(0, 3, 1, 2)
        return F.cross_entropy(network(x).float(), data[f"{step}.labels"])

    fit = Fit(named, q["options"]).run(loss_of)
    statistics = {n: b.float().clone() for n, b in network.named_buffers()}
    return fit.answer(q["output"], statistics)


def pairs_of(ranks, group):
    """Every two of a group, the better (of lower rank; of equal ones the later) first."""
    for first in range(0, len(ranks), group):
        for a in range(first, first + group):
            for b in range(a + 1, first + group):
                yield (a, b) if ranks[a] < ranks[b] else (b, a)


def ranking_loss(scores, ranks, group):
    """Minus the logarithm of each pair's softmax for the better one."""
    pairs = list(pairs_of(ranks.tolist(), group))
    better, worse = (scores[[pair[i] for pair in pairs]] for i in (0, 1))
    return -F.logsigmoid(better - worse).mean()


def embeds(features):
    vectors = features if isinstance(features, torch.Tensor) else features.pooler_output
    return F.normalize(vectors, dim=-1)


def pick_score(q, start, data):
    """PickScore's form: low-rank updates of a CLIP, and its temperature."""
    model, named = clip_of(q["clip"], start)
    scale = [(n, p) for n, p in named if n == "logit_scale"]
    named = with_lora(model, start, "", **q["lora"]) + scale
    model.logit_scale.requires_grad_(True)

    def loss_of(step):
        ids = data[f"{step}.ids"]
        texts = embeds(model.get_text_features(input_ids=ids, attention_mask=torch.ones_like(ids)))
        pictures = embeds(model.get_image_features(data[f"{step}.images"]))
        scores = model.logit_scale.exp() * (pictures * texts.repeat_interleave(q["group"], 0)).sum(-1)
        return ranking_loss(scores.float(), data[f"{step}.ranks"], q["group"])

    return Fit(named, q["options"]).run(loss_of).answer(q["output"])


def image_reward(q, start, data):
    model, _ = clip_of(q["clip"], start, "clip.")
    model.requires_grad_(False)
    sizes = q["reward"]
    network = networks.ImageReward(
        sizes["hidden_size"], sizes["intermediate_size"], sizes["num_attention_heads"], sizes["num_hidden_layers"],
        q["clip"]["text_config"]["hidden_size"], q["clip"]["vision_config"]["hidden_size"],
    )  # fmt: skip
    named = load(network, start)

    def loss_of(step):
        ids = data[f"{step}.ids"]
        states = model.text_model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        vision = model.vision_model(data[f"{step}.images"], output_hidden_states=True)
        patches = torch.cat([vision.hidden_states[1], vision.last_hidden_state], -1)
        scores = network(states.repeat_interleave(q["group"], 0), patches)
        return ranking_loss(scores.float(), data[f"{step}.ranks"], q["group"])

    return Fit(named, q["options"]).run(loss_of).answer(q["output"])


def aesthetic(q, start, data):
    network = networks.Head(q["inputs"])
    named = load(network, start)

    def loss_of(step):
        return F.mse_loss(network(data[f"{step}.embeddings"]).float(), data[f"{step}.ratings"])

    return Fit(named, q["options"]).run(loss_of).answer(q["output"])


def method(of):
    def answer(q, start, data):
        return of(q, start, data, Fit, with_lora, load)

    return answer


def hello(_, __, ___):
    return {"torch": torch.__version__}


ANSWERS = {
    answer.__name__: answer
    for answer in (
        hello, pretraining, autoencoder, clip, detector, noun_classifier, scene_classifier, resnet18, pick_score,
        image_reward, aesthetic,
    )
} | {of.__name__: method(of) for of in methods.METHODS}  # fmt: skip


def answer(question):
    start, data = (load_file(question[name]) if name in question else {} for name in ("start", "data"))
    return ANSWERS[question["ask"]](question, start, data)


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    answer_all(answer)
