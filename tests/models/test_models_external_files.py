"""A user's own file: what it must declare, what is part of its key, and the example that the documentation shows."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from models_fakes import noise_frames

from brainsim.core.errors import InputFileError, InvalidValueError, UnknownNameError
from brainsim.models import find_row, load_model, weights_key

HEAD = "import torch\nfrom torch import nn\n"
NET = HEAD + (
    "class Net(nn.Module):\n"
    "    def __init__(self):\n"
    "        super().__init__()\n"
    "        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)\n"
    "        self.act = nn.ReLU()\n"
    "        self.conv2 = nn.Conv2d(4, 6, 3, stride=2, padding=1)\n"
    "        self.fc = nn.Linear(6, 5)\n"
    "    def forward(self, x):\n"
    "        x = torch.relu(self.conv2(self.act(self.conv1(x))))\n"
    "        return self.fc(x.mean((2, 3)))\n"
)
INPUT = "{'size': (16, 16), 'n_frames': 1, 'mean': (0.5, 0.5, 0.5), 'std': (0.25, 0.25, 0.25)}"
MAKE = NET + f"def make_model():\n    return Net(), {{'input': {INPUT}, 'family': 'mine'}}\n"


def write(folder: Path, text: str, name: str = "my_net.py") -> str:
    (folder / name).write_text(text)
    return f"file:{folder / name}:make_model"


def test_layers_of_a_plain_network_are_its_weights_after_their_nonlinearity(tmp_path: Path) -> None:
    row = find_row(write(tmp_path, MAKE))
    assert (row.name, row.family, row.taps) == ("file:my_net.py:make_model", "mine", ("act", "conv2", "fc"))
    assert row.modules["act"].channel_axis == row.modules["conv2"].channel_axis == row.modules["fc"].channel_axis == 0


def test_activations_are_those_of_the_file_with_the_weights_it_makes(tmp_path: Path) -> None:
    name = write(tmp_path, MAKE)
    model = load_model(name)
    frames = noise_frames(model.input)
    x = torch.from_numpy(((frames[:, 0] / 255 - 0.5) / 0.25).transpose(0, 3, 1, 2).astype(np.float32))
    with torch.no_grad():
        expected = torch.relu(model.network.module.get_submodule("conv1")(x))
    assert torch.allclose(model.activations(frames)["act"], expected, atol=1e-6)
    again = load_model(name)
    assert again.weights_digest == model.weights_digest  # drawn in the file, the same every time
    assert load_model(name, random_weights=True).weights_digest != model.weights_digest


def test_key_follows_the_code_what_it_imports_the_function_and_the_weights(tmp_path: Path) -> None:
    (tmp_path / "my_scale.py").write_text("SCALE = 1.0\n")
    beside = "from my_scale import SCALE\n" + MAKE
    keys = [weights_key(write(tmp_path, beside))]
    (tmp_path / "my_scale.py").write_text("SCALE = 2.0\n")
    keys.append(weights_key(write(tmp_path, beside + "\n")))
    keys.append(weights_key(write(tmp_path, MAKE + "# a comment\n")))
    torch.save(torch.zeros(4, 3, 3, 3), tmp_path / "w.pt")
    filled = MAKE.replace(
        "    return Net(),", "    net = Net()\n    net.conv1.weight.data = torch.load(PATH)\n    return net,"
    )
    text = f"PATH = {str(tmp_path / 'w.pt')!r}\n" + filled
    keys.append(weights_key(write(tmp_path, text)))
    torch.save(torch.ones(4, 3, 3, 3), tmp_path / "w.pt")
    keys.append(weights_key(write(tmp_path, text + "\n")))
    assert len({str(key) for key in keys}) == 5
    assert keys[3]["weights"] != keys[4]["weights"]


def test_same_file_elsewhere_is_the_same_model(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, other = (find_row(write(tmp_path / folder, MAKE)) for folder in ("a", "b"))
    assert one.identity() == other.identity()
    assert weights_key(one) == weights_key(other)


def test_declared_taps_and_tokens_are_used(tmp_path: Path) -> None:
    text = HEAD + (
        "class Tokens(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.patch = nn.Conv2d(3, 8, 4, stride=4)\n"
        "        self.token = nn.Parameter(torch.zeros(1, 2, 8))\n"
        "        self.mix = nn.Identity()\n"
        "    def forward(self, x):\n"
        "        x = self.patch(x).flatten(2).transpose(1, 2)\n"
        "        return self.mix(torch.cat([self.token.expand(len(x), -1, -1), x], 1))\n"
        f"def make_model():\n    return Tokens(), {{'input': {INPUT}, 'taps': ['mix'], 'n_class_tokens': 2,"
        " 'token_grid': (1, 4, 4)}\n"
    )
    model = load_model(write(tmp_path, text))
    (tap,) = model.taps
    assert (tap.name, tap.shape, tap.channel_axis, tap.n_class_tokens, tap.grid) == ("mix", (18, 8), 1, 2, (1, 4, 4))


def test_clips_reach_the_network_in_the_declared_layout(tmp_path: Path) -> None:
    text = HEAD + (
        "class Mean(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.conv = nn.Conv3d(3, 3, 1)\n"
        "    def forward(self, x):\n"
        "        assert x.shape[1:] == (3, 6, 16, 16), x.shape\n"
        "        return self.conv(x)\n"
        "def make_model():\n"
        "    return Mean(), {'input': {'size': (16, 16), 'n_frames': 6, 'frame_stride': 2, 'layout': 'channels-frames',"
        " 'mean': (0, 0, 0), 'std': (1, 1, 1), 'sampling_hz': 12.5}}\n"
    )
    model = load_model(write(tmp_path, text))
    assert (model.input.frame_stride, model.input.sampling_hz) == (2, 12.5)
    assert model.activations(noise_frames(model.input))["conv"].shape == (2, 3, 6, 16, 16)


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        (MAKE.replace(", {'input'", " #"), InvalidValueError, "without declarations"),
        (NET + "def make_model():\n    return Net(), {}\n", InvalidValueError, "declares no input"),
        (MAKE.replace("'mean': (0.5, 0.5, 0.5), ", ""), InvalidValueError, r"does not tell mean; it needs size"),
        (MAKE.replace("'n_frames': 1", "'n_frames': 4"), InvalidValueError, "does not tell frame_stride, layout"),
        (MAKE.replace("'size': (16, 16)", "'size': 16"), InvalidValueError, "has size 16; 2 numbers"),
        (MAKE.replace("'family'", "'familly'"), UnknownNameError, "did you mean 'family'"),
        (MAKE.replace("'family': 'mine'", "'taps': ['conv3']"), InvalidValueError, "declares the tap 'conv3'"),
        (NET + "def make_model():\n    return 3, {}\n", InvalidValueError, "returns int"),
        (NET + "def make_modle():\n    return 3, {}\n", UnknownNameError, "did you mean 'make_modle'"),
        ("import nothing_of_this_name\n", InputFileError, r"ModuleNotFoundError, line 1"),
        (MAKE.replace("self.conv2(", "self.conv3("), InvalidValueError, "does not run on a clip"),
        ("def make_model():\n    raise ValueError('no weights here')\n", InputFileError, "line 2: no weights here"),
    ],
)
def test_what_a_file_lacks_is_said_in_a_sentence(tmp_path: Path, text: str, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        find_row(write(tmp_path, text))


@pytest.mark.parametrize("name", ["file:none.py:make_model", "file:my_net.py", "file:my_net.txt:make_model"])
def test_a_name_that_is_no_file_is_refused(name: str) -> None:
    with pytest.raises((InputFileError, InvalidValueError), match="model file"):
        find_row(name)


def test_the_documentations_example_runs(tmp_path: Path, root_dir: Path) -> None:
    page = (root_dir / "docs" / "models.md").read_text()
    found = re.search(r"<!-- models:own-file -->\n```python\n(.*?)```", page, re.DOTALL)
    assert found is not None
    model = load_model(write(tmp_path, found[1], "my.py"))
    assert "--model-file my.py:make_model" in page
    assert all(len(values) == 2 for values in model.activations(noise_frames(model.input)).values())
