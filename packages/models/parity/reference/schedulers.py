"""Goldens of the schedulers: whole trajectories, in float64."""

import json
import math
import sys

import diffusers
import numpy as np
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)
from safetensors.torch import save_file

from .common import OUT, VERSIONS, config_of, normal, stream


class Float64Torch:
    """Stands in for `torch` inside a scheduler's module, so that its tables are float64."""

    float32 = torch.float64

    def __getattr__(self, name):
        return getattr(torch, name)


class Float64Numpy:
    float32 = np.float64

    def __getattr__(self, name):
        return getattr(np, name)


def in_float64(cls):
    module = sys.modules[cls.__module__]
    module.torch, module.np = Float64Torch(), Float64Numpy()
    return module


SD_BETAS = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000)
SHAPE = (2, 2, 2, 3)


def scheduler_cases():
    ddim = dict(**SD_BETAS, clip_sample=False)
    yield "ddim-sd", DDIMScheduler, dict(**ddim, set_alpha_to_one=False, steps_offset=1), 10, {}
    yield "ddim-sd-eta1", DDIMScheduler, dict(**ddim, set_alpha_to_one=False, steps_offset=1), 10, {"eta": 1.0}
    yield "ddim-eta-half", DDIMScheduler, dict(**ddim, set_alpha_to_one=True, steps_offset=1), 7, {"eta": 0.5}
    yield "ddim-alpha-one", DDIMScheduler, dict(**ddim, set_alpha_to_one=True, steps_offset=0), 12, {}
    yield "ddim-trailing-v", DDIMScheduler, dict(**ddim, timestep_spacing="trailing", prediction_type="v_prediction"), 9, {"eta": 1.0}
    yield "ddim-linspace-sample", DDIMScheduler, dict(**ddim, timestep_spacing="linspace", prediction_type="sample"), 6, {"eta": 0.7}
    yield "ddim-linear-clip", DDIMScheduler, dict(beta_start=0.0001, beta_end=0.02, beta_schedule="linear", num_train_timesteps=1000, clip_sample=True, clip_sample_range=0.8), 5, {"eta": 0.3}
    yield "ddim-cosine", DDIMScheduler, dict(beta_schedule="squaredcos_cap_v2", num_train_timesteps=1000, clip_sample=False), 8, {"eta": 1.0}
    ddpm = dict(**SD_BETAS, clip_sample=False)
    yield "ddpm-sd", DDPMScheduler, dict(**ddpm, steps_offset=1), 10, {}
    yield "ddpm-large", DDPMScheduler, dict(**ddpm, variance_type="fixed_large"), 8, {}
    yield "ddpm-v-clip", DDPMScheduler, dict(**{**ddpm, "clip_sample": True}, prediction_type="v_prediction", timestep_spacing="trailing"), 6, {}
    yield "ddpm-sample", DDPMScheduler, dict(**ddpm, prediction_type="sample", timestep_spacing="linspace"), 6, {}
    dpm = dict(**SD_BETAS)
    for steps in (1, 2, 5, 14, 15, 20):
        yield f"dpm-sd-{steps}", DPMSolverMultistepScheduler, dict(**dpm, steps_offset=1), steps, {}
    yield "dpm-leading-v", DPMSolverMultistepScheduler, dict(**dpm, timestep_spacing="leading", steps_offset=1, prediction_type="v_prediction"), 12, {}
    yield "dpm-trailing", DPMSolverMultistepScheduler, dict(**dpm, timestep_spacing="trailing", prediction_type="sample"), 16, {}
    yield "dpm-first-order", DPMSolverMultistepScheduler, dict(**dpm, solver_order=1), 6, {}
    yield "dpm-sigma-min", DPMSolverMultistepScheduler, dict(**dpm, final_sigmas_type="sigma_min"), 16, {}
    yield "dpm-euler-final", DPMSolverMultistepScheduler, dict(**dpm, euler_at_final=True), 17, {}
    euler = dict(**SD_BETAS)
    yield "euler-sd", EulerDiscreteScheduler, dict(**euler, timestep_spacing="leading", steps_offset=1), 10, {}
    yield "euler-linspace", EulerDiscreteScheduler, dict(**euler), 7, {}
    yield "euler-trailing-v", EulerDiscreteScheduler, dict(**euler, timestep_spacing="trailing", prediction_type="v_prediction"), 8, {}
    pndm = dict(**SD_BETAS, steps_offset=1)
    for steps in (1, 2, 10):  # Stable Diffusion 1.x
        yield f"pndm-sd-{steps}", PNDMScheduler, dict(**pndm, skip_prk_steps=True), steps, {}
    yield "pndm-prk-4", PNDMScheduler, dict(**pndm), 4, {}
    yield "pndm-prk-9", PNDMScheduler, dict(**pndm, set_alpha_to_one=True), 9, {}
    yield "pndm-v-linspace", PNDMScheduler, dict(**SD_BETAS, skip_prk_steps=True, prediction_type="v_prediction", timestep_spacing="linspace"), 7, {}
    yield "pndm-prk-v-trailing", PNDMScheduler, dict(**SD_BETAS, prediction_type="v_prediction", timestep_spacing="trailing"), 6, {}
    for steps in (1, 3, 10):
        yield f"lms-sd-{steps}", LMSDiscreteScheduler, dict(**SD_BETAS), steps, {}
    yield "lms-leading-v", LMSDiscreteScheduler, dict(**SD_BETAS, timestep_spacing="leading", steps_offset=1, prediction_type="v_prediction"), 8, {}
    yield "lms-trailing-sample", LMSDiscreteScheduler, dict(**SD_BETAS, timestep_spacing="trailing", prediction_type="sample"), 6, {}
    karras, exponential = dict(use_karras_sigmas=True), dict(use_exponential_sigmas=True)
    zero_snr = dict(rescale_betas_zero_snr=True, prediction_type="v_prediction", timestep_spacing="trailing")
    ancestral = EulerAncestralDiscreteScheduler
    yield "euler-a-linspace", ancestral, dict(**SD_BETAS), 7, {}
    yield "euler-a-leading", ancestral, dict(**SD_BETAS, timestep_spacing="leading", steps_offset=1), 10, {}
    yield "euler-a-trailing-v", ancestral, dict(**SD_BETAS, timestep_spacing="trailing", prediction_type="v_prediction"), 9, {}
    yield "euler-a-1", ancestral, dict(**SD_BETAS), 1, {}
    yield "euler-a-zero-snr", ancestral, dict(**SD_BETAS, **zero_snr), 6, {}
    for steps in (1, 2, 3, 10, 20):
        yield f"unipc-sd-{steps}", UniPCMultistepScheduler, dict(**SD_BETAS), steps, {}
    yield "unipc-bh1-order-3", UniPCMultistepScheduler, dict(**SD_BETAS, solver_type="bh1", solver_order=3, final_sigmas_type="sigma_min"), 9, {}
    yield "unipc-order-3", UniPCMultistepScheduler, dict(**SD_BETAS, solver_order=3, timestep_spacing="leading", steps_offset=1), 9, {}
    yield "unipc-order-1", UniPCMultistepScheduler, dict(**SD_BETAS, solver_order=1, timestep_spacing="trailing", prediction_type="sample"), 6, {}
    yield "unipc-noise", UniPCMultistepScheduler, dict(**SD_BETAS, predict_x0=False, prediction_type="v_prediction", final_sigmas_type="sigma_min", lower_order_final=False), 8, {}
    yield "unipc-uncorrected", UniPCMultistepScheduler, dict(**SD_BETAS, disable_corrector=[0, 3], solver_type="midpoint"), 7, {}
    yield "unipc-karras", UniPCMultistepScheduler, dict(**SD_BETAS, **karras), 8, {}
    yield "unipc-exponential", UniPCMultistepScheduler, dict(**SD_BETAS, **exponential, sigma_min=0.05, sigma_max=12.0, final_sigmas_type="sigma_min"), 8, {}
    yield "unipc-zero-snr", UniPCMultistepScheduler, dict(**SD_BETAS, **zero_snr), 7, {}
    lcm = dict(**SD_BETAS)
    for steps in (1, 4, 7, 50):
        yield f"lcm-{steps}", LCMScheduler, dict(**lcm), steps, {}
    yield "lcm-clip-v", LCMScheduler, dict(**lcm, clip_sample=True, clip_sample_range=0.7, prediction_type="v_prediction", original_inference_steps=30, timestep_scaling=0.01), 5, {}
    yield "lcm-sample-zero-snr", LCMScheduler, dict(**lcm, prediction_type="sample", rescale_betas_zero_snr=True, set_alpha_to_one=False), 4, {}
    yield "euler-karras", EulerDiscreteScheduler, dict(**SD_BETAS, **karras), 8, {}
    yield "euler-karras-range", EulerDiscreteScheduler, dict(**SD_BETAS, **karras, sigma_min=0.1, sigma_max=10.0, timestep_spacing="leading", steps_offset=1), 6, {}
    yield "euler-exponential", EulerDiscreteScheduler, dict(**SD_BETAS, **exponential, timestep_spacing="trailing", final_sigmas_type="sigma_min"), 8, {}
    yield "euler-zero-snr", EulerDiscreteScheduler, dict(**SD_BETAS, **zero_snr), 6, {}
    yield "lms-karras", LMSDiscreteScheduler, dict(**SD_BETAS, **karras), 7, {}
    yield "lms-exponential", LMSDiscreteScheduler, dict(**SD_BETAS, **exponential), 6, {}
    yield "dpm-karras", DPMSolverMultistepScheduler, dict(**dpm, **karras), 20, {}
    yield "dpm-karras-cosine", DPMSolverMultistepScheduler, dict(beta_schedule="squaredcos_cap_v2", num_train_timesteps=1000, **karras, lambda_min_clipped=-5.1), 9, {}
    yield "dpm-exponential", DPMSolverMultistepScheduler, dict(**dpm, **exponential, final_sigmas_type="sigma_min"), 12, {}
    yield "dpm-zero-snr", DPMSolverMultistepScheduler, dict(**dpm, **zero_snr), 8, {}
    yield "ddim-zero-snr", DDIMScheduler, dict(**ddim, **zero_snr, set_alpha_to_one=False), 7, {"eta": 0.5}
    yield "ddpm-zero-snr", DDPMScheduler, dict(**ddpm, **zero_snr), 7, {}
    yield "ddim-trailing-48", DDIMScheduler, dict(**ddim, timestep_spacing="trailing"), 48, {}


SPACED = (
    ("DDIMScheduler", DDIMScheduler),
    ("EulerDiscreteScheduler", EulerDiscreteScheduler),
    ("DPMSolverMultistepScheduler", DPMSolverMultistepScheduler),
    ("UniPCMultistepScheduler", UniPCMultistepScheduler),
)


def checksums(timesteps):
    """The number of timesteps, and a sum that changes with their order."""
    values = [round(t * 1024) for t in timesteps]  # linspace for Euler has fractions
    return [len(values), sum((i % 97 + 1) * t for i, t in enumerate(values))]


def spacings():
    """Checksums of the timesteps of every number of steps from 1 to 1000, as diffusers gives them (not in float64)."""
    found = {}
    for name, cls in SPACED:
        for spacing in ("leading", "trailing", "linspace"):
            scheduler = cls(**SD_BETAS, timestep_spacing=spacing)
            most = 999 if spacing == "leading" and name.endswith("MultistepScheduler") else 1000
            rows = []
            for steps in range(1, most + 1):
                try:
                    scheduler.set_timesteps(steps)
                except ValueError:
                    rows.append(None)
                    continue
                rows.append(checksums(scheduler.timesteps.double().tolist()[:steps]))
            found[f"{name} {spacing}"] = rows
    (OUT / "timesteps.json").write_text(json.dumps({"madeWith": VERSIONS, "checksums": found}, separators=(",", ":")) + "\n")
    print(f"timesteps: {(OUT / 'timesteps.json').stat().st_size // 1024} KiB")


SIGMAS = (EulerDiscreteScheduler, EulerAncestralDiscreteScheduler, LMSDiscreteScheduler)


def schedulers():
    spacings()
    noise_queue = []
    tensors, cases = {}, {}
    for name, cls, config, steps, call in scheduler_cases():
        module = in_float64(cls)
        module.randn_tensor = lambda *_a, **_k: noise_queue.pop(0)
        scheduler = cls(**config)
        scheduler.set_timesteps(steps)
        gen = stream("schedulers/" + name)
        outputs = normal(gen, len(scheduler.timesteps), *SHAPE, dtype=torch.float64)
        noises = normal(gen, len(scheduler.timesteps), *SHAPE, dtype=torch.float64)
        sample = normal(gen, *SHAPE, dtype=torch.float64)
        if cls in SIGMAS:
            sample = sample * scheduler.init_noise_sigma
        trajectory, scaled = [sample], []
        for index, timestep in enumerate(scheduler.timesteps):
            scaled.append(scheduler.scale_model_input(sample, timestep))
            noise_queue[:] = [noises[index]]
            arguments = dict(call)
            if cls is DDIMScheduler and call.get("eta", 0) > 0:
                arguments["variance_noise"] = noises[index]
            if cls is LCMScheduler:
                timestep = timestep.item()  # a tensor of it would be scaled in float32
            sample = scheduler.step(outputs[index], timestep, sample, **arguments).prev_sample
            assert sample.dtype == torch.float64
            trajectory.append(sample)
        if cls in (DDIMScheduler, DDPMScheduler):
            times = torch.tensor([17, 903])
            tensors[f"{name}.outputs.noised"] = scheduler.add_noise(trajectory[0], noises[0], times)
            tensors[f"{name}.outputs.velocity"] = scheduler.get_velocity(trajectory[0], noises[0], times)
        tensors.update({
            f"{name}.inputs.model_outputs": outputs,
            f"{name}.inputs.noise": noises,
            f"{name}.outputs.trajectory": torch.stack(trajectory),
            f"{name}.outputs.timesteps": scheduler.timesteps.float().double(),
            f"{name}.outputs.initial_noise_scale": torch.tensor([float(scheduler.init_noise_sigma)], dtype=torch.float64),
        })
        if cls in SIGMAS:
            tensors[f"{name}.outputs.scaled"] = torch.stack(scaled)
        cases[name] = {
            "class": cls.__name__,
            # "lambda_min_clipped": -Infinity, which is no JSON
            "config": {k: v for k, v in config_of(scheduler).items() if v != -math.inf},
            "steps": steps,
            **call,
        }
    save_file({k: v.contiguous() for k, v in tensors.items()}, OUT / "schedulers.safetensors")
    description = {"name": "schedulers", "madeWith": VERSIONS, "noisedTimesteps": [17, 903], "cases": cases}
    (OUT / "schedulers.json").write_text(json.dumps(description, indent=1) + "\n")
    print(f"schedulers: {len(cases)} cases, {(OUT / 'schedulers.safetensors').stat().st_size // 1024} KiB")
    for cls in sorted({cls for _, cls, *_ in scheduler_cases()}, key=lambda cls: cls.__name__):
        sys.modules[cls.__module__].torch, sys.modules[cls.__module__].np = torch, np
        sys.modules[cls.__module__].randn_tensor = diffusers.utils.torch_utils.randn_tensor
