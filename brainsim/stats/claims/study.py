"""Turn the study's words into rows: its five claims. How each was turned into a test stands in `reading`.

A system's score is its own, alone; a role of several systems has the mean of theirs. Streams are named where the
study's words name them ("any stream", "every stream"); elsewhere it is the mean of the streams that is tested.
"""

from __future__ import annotations

from brainsim.stats.claims.rows import Claim, Part

_SOURCE = "the study of nine systems (Karimi, Wang and Anzellotti), as retold in docs/claims.md"

_ROLES = {
    "image-mae-pretrained": ("mae-base",),
    "image-mae-finetuned": ("mae-base-finetuned",),
    "image-mae": ("mae-base", "mae-base-finetuned"),
    "supervised-cnn": ("cnn-static-object", "cnn-static-action"),
    "dynamic-cnn": ("cnn-flow-selfsup", "cnn-flow-action"),
    "video-mae": ("videomae-base", "videomae-base-finetuned"),
    "mvd": ("mvd-base",),
}

ROWS = (
    Claim(
        name="image-mae-little",
        says="Image MAEs correspond little to any stream.",
        parts=(Part("alone", "image-mae-pretrained", direction="little"),),
        roles=_ROLES,
        over="every-stream",
        reading="The pre-trained one is meant, since the next claim is about fine-tuning it. Little: less than a share "
        "of what can be reached that is declared before (--little).",
        source=_SOURCE,
        order=10,
    ),
    Claim(
        name="finetuning-helps",
        says="Fine-tuning helps image MAEs, but they do not reach the supervised CNNs.",
        parts=(
            Part("difference", "image-mae-finetuned", ("image-mae-pretrained",)),
            Part("difference", "supervised-cnn", ("image-mae-finetuned",)),
        ),
        roles=_ROLES,
        over="mean-of-streams",
        reading="Supervised CNNs: the two static ones, which see what the image MAE sees.",
        source=_SOURCE,
        order=20,
    ),
    Claim(
        name="temporal-above-image-mae",
        says="Systems with temporal information (VideoMAE, MVD) correspond better than image MAEs.",
        parts=(
            Part("difference", "video-mae", ("image-mae",)),
            Part("difference", "mvd", ("image-mae",)),
        ),
        roles=_ROLES,
        over="mean-of-streams",
        reading="Each of the two must be better than the mean of the image MAEs.",
        source=_SOURCE,
        order=30,
    ),
    Claim(
        name="dynamic-cnn-above-temporal",
        says="Systems with temporal information (VideoMAE, MVD) do not correspond as well as dynamic CNNs.",
        parts=(
            Part("difference", "dynamic-cnn", ("video-mae",)),
            Part("difference", "dynamic-cnn", ("mvd",)),
        ),
        roles=_ROLES,
        over="mean-of-streams",
        reading="Dynamic CNNs must be better than each of the two.",
        source=_SOURCE,
        order=40,
    ),
    Claim(
        name="flow-unique",
        says="Systems built on optic flow have unique variance in every stream, even beside VideoMAE and MVD.",
        parts=(Part("unique", "dynamic-cnn", ("video-mae", "mvd")),),
        roles=_ROLES,
        over="every-stream",
        reading="Unique: what all systems together lose without both flow systems.",
        source=_SOURCE,
        order=50,
    ),
)
