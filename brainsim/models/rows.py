"""Turn what is known of a model into one frozen row: names, input, taps, sources, protocols. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from brainsim.core.checks import check_choice
from brainsim.core.errors import InvalidValueError
from brainsim.core.provenance import digest

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# How frames are laid out for the network; B clips of T frames:
#   image            (B, 3, H, W)       T is 1
#   frames-channels  (B, T, 3, H, W)
#   channels-frames  (B, 3, T, H, W)
#   stacked          (B, 3 T, H, W)     all red frames, then green, then blue
LAYOUTS = ("image", "frames-channels", "channels-frames", "stacked")

# Protocol default with one step of the study's, so that what a conclusion owes to each can be told: what of the
# protocol it takes, and in words.
STEPS: dict[str, tuple[tuple[str, ...], str]] = {
    "study-mask": (("random_mask", "masked_tokens"), "tokens are dropped or masked, and shuffled"),
    "study-scaling": (("divisor", "mean", "std"), "pixels are scaled otherwise than in training"),
    "study-window": (("n_frames", "frame_stride", "sampling_hz"), "clips are of consecutive frames"),
}
PROTOCOLS = ("default", "study", *STEPS)
# Of the products in a forward pass; models.precision says what they stand for in torch.
PRECISIONS = ("fp32", "fp16", "bf16")
WEIGHT_KINDS = ("torchvision", "timm", "transformers", "file", "own", "random", "none")


@dataclass(frozen=True)
class InputSpec:
    """What a network is shown.

    Parameters
    ----------
    n_frames : int
        Frames per clip; 1 for images.
    frame_stride : int
        Movie frames from one frame of the clip to the next.
    size : (int, int)
        Height and width, px.
    mean, std : tuple of 3 floats
        Subtracted from, then divided into, the scaled RGB values.
    frame_rate_hz : float, optional
        Frame rate of the videos that the network was trained on; None for images.
    layout : str
        One of `LAYOUTS`.
    divisor : float
        Bytes are divided by this before mean and std; 255 gives [0, 1].
    sampling_hz : float, optional
        Rate in which the stride counts, for networks whose frames lie a known time apart; None: the movie's own frames.
    """

    n_frames: int
    size: tuple[int, int]
    frame_stride: int = 1
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    frame_rate_hz: float | None = None
    layout: str = "image"
    divisor: float = 255.0
    sampling_hz: float | None = None

    def __post_init__(self) -> None:
        check_choice("layout", self.layout, LAYOUTS)
        if self.layout == "image" and self.n_frames != 1:
            raise InvalidValueError(f"layout 'image' with {self.n_frames} frames; an image has 1.")


@dataclass(frozen=True)
class TapLayout:
    """What the axes of one layer's output stand for, without the batch axis.

    Parameters
    ----------
    channel_axis : int, optional
        Axis that holds channels; None where it is not known, and then nothing can be pooled.
    n_class_tokens : int
        Leading tokens that stand for the whole clip.
    grid : (int, int, int), optional
        Time, height and width of the places after those, time slowest; None where their order is not known.
    """

    channel_axis: int | None
    n_class_tokens: int = 0
    grid: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class ProtocolSpec:
    """One way to run a model: as it was trained, or as the study's scripts ran it.

    Parameters
    ----------
    input : InputSpec
        What the network is shown.
    random_mask : float
        Share of patch tokens dropped at random, anew for every image, the rest shuffled; 0: every token, in order.
    masked_tokens : int
        Number of tokens dropped at the beginning of the token sequence (video transformers).
    notes : tuple of str
        What a reader should know: differences from the default and how sure they are.
    """

    input: InputSpec
    random_mask: float = 0.0
    masked_tokens: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Accuracy:
    """A published categorisation accuracy.

    Parameters
    ----------
    percent : float
        Top-1 accuracy, per cent.
    task : str
        Data set, and what was done to get there.
    source : str
        Who says so.
    """

    percent: float
    task: str
    source: str


@dataclass(frozen=True)
class WeightsSource:
    """Where a model's weights come from.

    Parameters
    ----------
    kind : str
        "torchvision", "timm", "transformers": that library fetches `identifier`. "file": a file the user has, passed
        with `--checkpoint`. "own": what builds the network fills it too, and `identifier` is their digest. "random":
        drawn from the seed. "none": the model has no weights.
    identifier : str
        The library's name of the weights, or the file's name.
    files : tuple of str
        Files that `--checkpoint` reads for this row, with where to get them.
    """

    kind: str
    identifier: str = ""
    files: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_choice("weights", self.kind, WEIGHT_KINDS)


@dataclass(frozen=True)
class ModelRow:
    """One model: everything that can be said of it without loading it.

    Parameters
    ----------
    name, family : str
        Its own name and the family it is grouped with.
    kind : str
        What sort of system it is, in words.
    taps : tuple of str
        Layers, in order of depth: module names of the network, as in `named_modules()`.
    protocols : mapping of str to ProtocolSpec
        "default" must be there.
    load : str
        "module:function"; the function takes (row, protocol) and returns a `brainsim.models.network.Network`. Heavy
        libraries are imported there and nowhere else.
    tap_sets : mapping of str to tuple of str
        Other choices of taps by name ("mlp-out", "residual"); `taps` is one of them where there are any.
    options : mapping
        What `load` needs to build the network: widths, numbers of classes.
    order : int
        Place in listings: the study's systems come first, in its order.
    modules : mapping of str to TapLayout
        Every module that can be tapped, in order of depth, with what its axes stand for; empty where only `taps` are
        listed. `taps` are some of them.
    address : str
        What finds the model again where its name does not: a name that holds a path, as it was typed.
    control_of : str
        Name of the row whose network this is with random weights: an untrained control; empty for all others.
    """

    name: str
    family: str
    kind: str
    taps: tuple[str, ...]
    protocols: Mapping[str, ProtocolSpec]
    load: str
    trained_to_give: str = ""
    training_set: str = ""
    accuracy: Accuracy | None = None
    citation: str = ""
    licence: str = ""
    weights: WeightsSource = field(default_factory=lambda: WeightsSource("none"))
    notes: tuple[str, ...] = ()
    tap_sets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    order: int = 90
    modules: Mapping[str, TapLayout] = field(default_factory=dict)
    address: str = ""
    control_of: str = ""

    def __post_init__(self) -> None:
        if "default" not in self.protocols:
            raise InvalidValueError(f"model {self.name!r} has no protocol 'default'; every row needs one.")
        if not self.taps or len(set(self.taps)) != len(self.taps):
            raise InvalidValueError(f"model {self.name!r} names {len(self.taps)} taps; at least 1, all distinct.")

    @property
    def input(self) -> InputSpec:
        """What the network is shown in the default protocol."""
        return self.protocols["default"].input

    @property
    def node_name(self) -> str:
        """The name in paths of the store; names of rows have neither ":" nor "/", those of other models have no "+"."""
        return self.name.replace(":", "+").replace("/", "+")

    @property
    def seed_name(self) -> str:
        """The name that random weights and masks are drawn by: a control's are those of the model that it is one of."""
        return self.control_of or self.name

    def layer_index(self, layer: str, tap: str | None = None) -> int:
        """Return a layer's place in order of depth: among all modules where they are known, else among the taps."""
        return list(self.modules).index(layer) if self.modules else self.layers(tap).index(layer)

    def protocol(self, name: str = "default") -> ProtocolSpec:
        """Return a protocol by name; a row without one of its own for `study` is run as by default.

        ``study-mask``, ``study-scaling`` and ``study-window`` are the default with one of the study's steps (`STEPS`).
        """
        check_choice("protocol", name, PROTOCOLS)
        default = self.protocols["default"]
        if name not in STEPS:
            return self.protocols.get(name, default)
        study, taken = self.protocols.get("study", default), STEPS[name][0]
        of_input = {f.name: getattr(study.input, f.name) for f in fields(InputSpec) if f.name in taken}
        of_spec = {f.name: getattr(study, f.name) for f in fields(ProtocolSpec) if f.name in taken}
        return replace(default, input=replace(default.input, **of_input), **of_spec)

    def is_changed_by(self, protocol: str) -> bool:
        """Return whether a protocol shows the network anything else than the default does, or masks it otherwise."""
        return self.identity(protocol) != self.identity()

    def layers(self, tap: str | None = None) -> tuple[str, ...]:
        """Return the taps of a tap set ("mlp-out", "residual"), or the row's own."""
        if tap is None:
            return self.taps
        return self.tap_sets[check_choice("tap", tap, sorted(self.tap_sets), hint=f"brainsim models show {self.name}")]

    def identity(self, protocol: str = "default") -> str:
        """Return the digest of all that can change a number: not of citations and notes."""
        spec = self.protocol(protocol)
        shown = {f.name: getattr(spec.input, f.name) for f in fields(InputSpec)}
        if spec.input.sampling_hz is None:
            del shown["sampling_hz"]  # so that the option leaves the keys of all who do without it as they were
        return digest(
            {
                "name": self.seed_name, "load": self.load, "options": dict(self.options), "input": shown,
                "random_mask": spec.random_mask, "masked_tokens": spec.masked_tokens,
            }
        )  # fmt: skip
