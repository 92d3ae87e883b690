"""Turn movies, arrays of frames and folders of images into frames with times, and frames into clips."""

from brainsim.stimuli.batches import ClipBatch, ClipRequest, iter_clip_batches
from brainsim.stimuli.clips import CLIP_WINDOWS, PADS, ClipPlan, plan_clips
from brainsim.stimuli.frames import RESIZES, iter_frames, resize_frame
from brainsim.stimuli.moving import render_moving_photographs
from brainsim.stimuli.opening import open_stimulus
from brainsim.stimuli.stimulus import ARRAY_AXES, Stimulus
from brainsim.stimuli.video import write_video

__all__ = [
    "ARRAY_AXES",
    "CLIP_WINDOWS",
    "PADS",
    "RESIZES",
    "ClipBatch",
    "ClipPlan",
    "ClipRequest",
    "Stimulus",
    "iter_clip_batches",
    "iter_frames",
    "open_stimulus",
    "plan_clips",
    "render_moving_photographs",
    "resize_frame",
    "write_video",
]
