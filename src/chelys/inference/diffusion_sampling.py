"""Latents to mel: a few steps of the schedule that the network was trained on, guided, by one of three samplers.

``sample_mel`` is the loop, ``ddpm_step``, ``ddim_step`` and ``dpm_step`` are one step each: pure functions from a noisy
mel ``x`` and the estimate ``x0`` of the clean one to a less noisy mel. Noise comes in as an argument, numbers of the
schedule from ``chelys.models.diffusion_schedule``.

Guidance has two conventions. Here ``guidance`` is w in (1 + w) * conditional - w * unconditional, as in Ho & Salimans
2022 and the published TorToise: 0 is no guidance. The ``guidance_scale`` of diffusers is w + 1.

b batch, f bands, s mel frames, d width, p positions.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from chelys.deprecation import renamed_names
from chelys.inference.options import Sampler
from chelys.inference.speech import Progress
from chelys.models.diffusion import Diffusion
from chelys.models.diffusion_schedule import (
    TRAIN_STEPS,
    DiffusionSchedule,
    even_timesteps,
    packed_timesteps,
    predict_eps,
    predict_x0,
    q_posterior,
)
from chelys.models.diffusion_steps import Adapters, DiffusionSteps


def sampling_schedule(sampler: Sampler, steps: int, train_steps: int = TRAIN_STEPS) -> DiffusionSchedule:
    """The steps that a sampler visits: evenly spaced as published, or packed towards the clean end for the solver."""
    spaced = packed_timesteps if sampler in ("dpm++2m", "distilled") else even_timesteps
    return DiffusionSchedule(spaced(steps, train_steps=train_steps), train_steps)


@torch.inference_mode()
def sample_mel(
    network: Diffusion, conditioning: Tensor, start: Tensor, steps: int, guidance: float, bounds: tuple[float, float],
    *, sampler: Sampler = "dpm++2m", eta: float = 0.0, guidance_ramp: bool = False, guidance_share: float = 1.0,
    noise: Callable[[], Tensor] | None = None, train_steps: int = TRAIN_STEPS, known: Tensor | None = None,
    adapters: Adapters | None = None, progress: Progress | None = None,
) -> Tensor:  # fmt: skip
    """Mel from noise.

    Raises ValueError if the number of steps is out of range, or noise is needed and not given.

    Args:
        network: In evaluation mode, predicting eps or x0, with or without a learned variance.
        conditioning: ``(b, d, p)``, from ``Diffusion.conditioning``.
        start: Noise ``(b, f, s)``; everything but the network computes in its precision.
        steps: How many steps to take, 1 to ``train_steps``.
        guidance: Weight w of classifier-free guidance; 0 for ``distilled``, which has it in its adapters.
        bounds: Lowest and highest value of a clean mel.
        sampler: As in ``SpeechOptions``.
        eta: Share of new noise in ``ddim``.
        guidance_ramp: Let the guidance grow with the steps.
        guidance_share: Share of the steps that are guided, from the first on.
        noise: Draws unit noise ``(b, f, s)``: once at every step of ``ddpm``, also the last, which does not use it;
            likewise of ``ddim`` with eta; never otherwise.
        train_steps: Steps of the schedule that the network was trained on.
        known: The first frames of the mel ``(b, f, k)`` in network units, where they are known: each step has them
            for its estimate, and so the others follow on from them.
        adapters: Of a distilled decoder, for all steps but the last, which is the network's own.
        progress: Called with ("rendering", steps done, steps).

    Returns:
        Mel ``(b, f, s)`` in network units.
    """
    schedule = sampling_schedule(sampler, steps, train_steps)
    stochastic = sampler == "ddpm" or (sampler == "ddim" and eta > 0)
    if stochastic and noise is None:
        raise ValueError(f"{sampler} needs new noise at each step: pass noise, a function that draws it")
    steps_of: Diffusion | DiffusionSteps = network
    if isinstance(network, Diffusion):
        conditioning = conditioning.to(network.uncond_embedding.dtype)
        steps_of = DiffusionSteps(network, conditioning, guided=guidance > 0, adapters=adapters)
    x, x0_prev = start, None
    for index in reversed(range(steps)):
        weight = guidance_at(schedule, index, guidance, guidance_ramp, guidance_share)
        if isinstance(steps_of, DiffusionSteps):
            steps_of.adapted = index > 0
        x0, variance = guided_x0(steps_of, schedule, index, x, conditioning, weight, bounds)
        if known is not None:
            x0 = torch.cat((known, x0[:, :, known.shape[2] :]), dim=2)
        eps = noise() if stochastic and noise is not None else None
        if sampler == "dpm++2m":
            x = dpm_step(schedule, index, x, x0, x0_prev)
        elif sampler == "distilled":  # its steps are of first order
            x = dpm_step(schedule, index, x, x0, None)
        elif sampler == "ddim":
            x = ddim_step(schedule, index, x, x0, eta, eps)
        else:
            assert eps is not None
            x = ddpm_step(schedule, index, x, x0, variance, eps)
        x0_prev = x0
        if progress:
            progress("rendering", steps - index, steps)
    return x


# ---- what the network predicts --------------------------------------------------------------------------------------


def guided_prediction(
    network: Diffusion | DiffusionSteps, x: Tensor, timestep: int, conditioning: Tensor, guidance: float
) -> tuple[Tensor, Tensor | None]:
    """Prediction of the network under classifier-free guidance (Ho & Salimans 2022).

    ``network``: in evaluation mode, or its steps over this conditioning. It runs in its own precision. ``x``: noisy mel
    ``(b, f, s)``. ``timestep``: of the trained schedule. ``conditioning``: ``(b, d, p)``. ``guidance``: w in (1 + w)
    conditional - w unconditional; 0 is none. Returns eps or x0, whichever the network predicts, ``(b, f, s)``; and the
    learned variance, which guidance leaves alone, ``(b, f, s)``, or None.
    """
    b, bands, _ = x.shape
    dtype = network.uncond_embedding.dtype
    noisy, conditioning = x.to(dtype), conditioning.to(dtype)
    if isinstance(network, DiffusionSteps):
        predicted = network(noisy, timestep, guided=guidance > 0)
    elif guidance:  # both passes as one batch
        free = network.uncond_embedding.expand_as(conditioning)
        time = torch.full((2 * b,), timestep, device=x.device)
        predicted = network(torch.cat((noisy, noisy)), time, torch.cat((conditioning, free)))
    else:
        predicted = network(noisy, torch.full((b,), timestep, device=x.device), conditioning)
    predicted = predicted.to(x.dtype)
    estimate = predicted[:b, :bands]
    if guidance:
        estimate, predicted = estimate + guidance * (estimate - predicted[b:, :bands]), predicted[:b]
    return estimate, predicted[:, bands:] if predicted.shape[1] > bands else None


def guided_x0(
    network: Diffusion | DiffusionSteps, schedule: DiffusionSchedule, index: int, x: Tensor, conditioning: Tensor,
    guidance: float, bounds: tuple[float, float],
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """The network's estimate of the clean mel at a step, clamped to its bounds, and the learned variance.

    ``x``: noisy mel ``(b, f, s)``; ``conditioning``: ``(b, d, p)``; ``guidance``: as in ``guided_prediction``;
    ``bounds``: lowest and highest value of a clean mel.
    """
    estimate, variance = guided_prediction(network, x, schedule.timesteps[index], conditioning, guidance)
    x0 = predict_x0(schedule, index, x, estimate) if network.config.prediction == "epsilon" else estimate
    return x0.clamp(*bounds), variance


def guidance_at(schedule: DiffusionSchedule, index: int, guidance: float, ramp: bool, share: float = 1.0) -> float:
    """Guidance at a step: all of it, or growing from a small part at the first to all at the last.

    ``share``: of the steps, from the first on; those after it have none (Kynkaanniemi et al. 2024, arXiv 2404.07724).
    """
    if len(schedule) - index > round(share * len(schedule)):
        return 0.0
    return guidance * (1 - index / len(schedule)) if ramp else guidance


# ---- one step -------------------------------------------------------------------------------------------------------


def ddpm_step(
    schedule: DiffusionSchedule, index: int, x: Tensor, x0: Tensor, variance: Tensor | None, noise: Tensor
) -> Tensor:
    """Sample the next cleaner mel (Ho et al. 2020, algorithm 2). The last step takes the mean, without noise.

    ``variance``: learned variance, as in ``q_posterior``; ``noise``: unit noise.
    """
    mean, log_variance = q_posterior(schedule, index, x, x0, variance)
    return mean + (0.5 * log_variance).exp() * noise if index else mean


def ddim_step(
    schedule: DiffusionSchedule, index: int, x: Tensor, x0: Tensor, eta: float, noise: Tensor | None
) -> Tensor:
    """The next cleaner mel along the same noise, or in part along new noise (Song et al. 2020, equation 12).

    ``eta``: 0 is the probability flow, 1 replaces as much noise as DDPM with the posterior's variance. ``noise``: unit
    noise; None if eta is 0.
    """
    alpha, prev = float(schedule.alphas_cumprod[index]), float(schedule.alphas_cumprod_prev[index])
    sigma = eta * ((1 - prev) / (1 - alpha)) ** 0.5 * (1 - alpha / prev) ** 0.5
    eps = predict_eps(schedule, index, x, x0)  # from the clamped x0, not what the network predicted
    moved = prev**0.5 * x0 + (1 - prev - sigma**2) ** 0.5 * eps
    return moved if noise is None else moved + sigma * noise


def dpm_step(schedule: DiffusionSchedule, index: int, x: Tensor, x0: Tensor, x0_prev: Tensor | None) -> Tensor:
    """The next cleaner mel by DPM-Solver++(2M), the probability flow to second order (Lu et al. 2022, algorithm 2).

    ``alphas_cumprod`` comes from the schedule that the network was trained on. tortoise-tts-fast pairs the solver with
    a continuous schedule that differs: at its first step it takes 0.081 of the power for signal where the network, at
    step 1000 of 4000, has learned 0.524, and halfway 0.530 instead of 0.846.

    ``x0_prev``: the same of the previous, noisier step; None at the first step, which is of first order.
    """
    if index == 0:
        return x0
    alpha, target = float(schedule.alphas_cumprod[index]), float(schedule.alphas_cumprod[index - 1])
    h = _half_log_snr(target) - _half_log_snr(alpha)
    direction = x0
    if x0_prev is not None:
        ratio = (_half_log_snr(alpha) - _half_log_snr(float(schedule.alphas_cumprod[index + 1]))) / h
        direction = (1 + 0.5 / ratio) * x0 - 0.5 / ratio * x0_prev
    shrink = torch.expm1(torch.tensor(-h)).item()  # float32; math.expm1 is exact but changes the samples
    return ((1 - target) / (1 - alpha)) ** 0.5 * x - target**0.5 * shrink * direction


def _half_log_snr(alpha: float) -> float:
    return 0.5 * torch.logit(torch.tensor(alpha, dtype=torch.float64)).item()


__getattr__ = renamed_names(__name__)
