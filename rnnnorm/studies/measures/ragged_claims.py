"""What has been said about batch normalization and ragged sequences."""

from __future__ import annotations

from rnnnorm.studies.framework.verdict import Claim

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "padding",
        "Batch normalization whose statistics count padding is incorrect, and does harm.",
        "pytorch#70529; Laurent et al., ICASSP 2016 (statistics of the last frames); Cooijmans et al., ICLR 2017",
        "validation error of the attentive reader 49.5 % with statistics per step, 47.1 % with masked ones of the "
        "input (BN-e* of Cooijmans et al., who also changed learning rate and batch size)",
    ),
    Claim(
        "survivors",
        "Batch normalization per timestep fails at late steps, which few sequences reach.",
        "Cooijmans et al., ICLR 2017, and their code (population statistics against low sample size in later steps); "
        "Ba et al. 2016",
    ),
    Claim(
        "gap",
        "The more ragged the lengths, the larger the gap between training and evaluation.",
        "Ba et al. 2016, as a reason for layer normalization",
    ),
    Claim(
        "running",
        "Running averages are terrible: population statistics need an extra pass over the training set.",
        "Cooijmans et al., ICLR 2017, and their code",
    ),
    Claim(
        "constant",
        "Where all sequences of a batch agree, as in their first symbol, stored statistics break.",
        "after Cooijmans et al., ICLR 2017, who saw zero variance break the gradient",
    ),
    Claim(
        "lag",
        "Running averages fail because they lag behind the weights, not because they are noisy.",
        "Ioffe & Szegedy, ICML 2015 (population statistics at fixed weights); Cooijmans et al., ICLR 2017",
    ),
    Claim(
        "rows",
        "Few rows are to blame: leaving out steps with less than 8 cures the late steps.",
        "Cooijmans et al., code of ICLR 2017 (low sample size in later steps)",
    ),
    Claim(
        "tail",
        "The thin tail before T_max is to blame: one pooled slot for all of its steps cures the late steps.",
        "after Cooijmans et al., ICLR 2017, who repeat the last step's statistics beyond T_max",
    ),
    Claim(
        "cure",
        "Only recalibration makes statistics per step usable: no cheaper cure comes as close to each batch's own.",
        "Cooijmans et al., ICLR 2017 (`an extra pass over the training set`)",
    ),
)
