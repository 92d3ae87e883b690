"""Checkpoints in every published layout, made from known weights, and files that must be refused."""

from __future__ import annotations

import argparse
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from models_fakes import noise_frames, relative_error
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    VideoMAEConfig,
    VideoMAEForPreTraining,
    VideoMAEForVideoClassification,
    ViTMAEConfig,
    ViTMAEForPreTraining,
)

from brainsim.core.errors import CheckpointError
from brainsim.models import LoadedModel, load_model
from brainsim.models.networks.tubelets import TubeletTransformer

State = dict[str, Tensor]
# Weights of this seed are written to files; a model loaded from the file must equal the model of this seed.
SEED = 11


def reference(name: str) -> tuple[LoadedModel, State]:
    model = load_model(name, seed=SEED)
    return model, {n: t.clone() for n, t in model.network.module.state_dict().items()}


def check_loads(name: str, path: Path, expected: LoadedModel) -> LoadedModel:
    loaded = load_model(name, checkpoint=path)
    frames = noise_frames(expected.input, n_clips=1)
    got, wanted = loaded.activations(frames), expected.activations(frames)
    assert max(relative_error(got[t].numpy(), wanted[t].numpy()) for t in wanted) < 1e-5
    return loaded


def prefixed(state: State, prefix: str) -> State:
    return {f"{prefix}{n}": t for n, t in state.items()}


def split_biases(state: State) -> State:
    """Return blocks as the authors of VideoMAE and MVD store them: q and v biases apart, none for k."""
    split = {}
    for name, tensor in state.items():
        if name.endswith("attn.qkv.bias"):
            stem = name.removesuffix("qkv.bias")
            split[f"{stem}q_bias"], _, split[f"{stem}v_bias"] = tensor.chunk(3)
        else:
            split[name] = tensor
    return split


def without_key_bias(model: LoadedModel) -> State:
    state = model.network.module.state_dict()
    for name, tensor in state.items():
        if name.endswith("attn.qkv.bias"):
            tensor.chunk(3)[1].zero_()
    return {n: t.clone() for n, t in state.items()}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_plain_state_dict_in_the_networks_own_names(tmp_path: Path, suffix: str) -> None:
    model, state = reference("cnn-static-object-tiny")
    path = tmp_path / f"weights{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    loaded = check_loads("cnn-static-object-tiny", path, model)
    assert loaded.weights_digest == check_loads("cnn-static-object-tiny", path, model).weights_digest


def test_haa500_static_file_names_its_classifier_fc_action(tmp_path: Path) -> None:
    model, state = reference("cnn-static-action-tiny")
    state = {n.replace("fc.", "fc_action."): t for n, t in state.items()}
    torch.save({"epoch": 3, "state_dict": prefixed(state, "module.")}, tmp_path / "static.pth")
    check_loads("cnn-static-action-tiny", tmp_path / "static.pth", model)


@pytest.mark.parametrize(
    ("container", "prefix"), [("state_dict", "encoder."), ("MODEL_STATE", "module."), ("model_state_dict", "")]
)
def test_flow_network_files_in_their_three_wrappings(tmp_path: Path, container: str, prefix: str) -> None:
    model, state = reference("cnn-flow-selfsup-tiny")
    torch.save({container: prefixed(state, prefix), "EPOCHS_RUN": 12}, tmp_path / "flow.pth")
    check_loads("cnn-flow-selfsup-tiny", tmp_path / "flow.pth", model)


def test_flow_action_file_holds_generator_and_classifier(tmp_path: Path) -> None:
    model, state = reference("cnn-flow-action-tiny")
    assert {n.split(".")[0] for n in state} == {"flow_generator", "flow_classifier"}
    torch.save({"MODEL_STATE": prefixed(state, "module.")}, tmp_path / "action.pth")
    check_loads("cnn-flow-action-tiny", tmp_path / "action.pth", model)


def test_mae_pretrained_file_with_and_without_its_decoder(tmp_path: Path) -> None:
    model, state = reference("mae-base-tiny")
    torch.save({"model": state}, tmp_path / "encoder.pth")
    check_loads("mae-base-tiny", tmp_path / "encoder.pth", model)
    decoder = {"mask_token": torch.zeros(1, 1, 4), "decoder_pos_embed": torch.zeros(1, 17, 4)}
    decoder |= {"decoder_blocks.0.attn.qkv.weight": torch.zeros(12, 4), "decoder_pred.bias": torch.zeros(2)}
    torch.save({"model": state | decoder, "args": argparse.Namespace(lr=1e-3)}, tmp_path / "full.pth")
    check_loads("mae-base-tiny", tmp_path / "full.pth", model)


def test_mae_finetuned_file_has_fc_norm_and_head_and_no_norm(tmp_path: Path) -> None:
    model, state = reference("mae-base-finetuned-tiny")
    assert "fc_norm.weight" in state
    assert "head.weight" in state
    assert "norm.weight" not in state
    torch.save({"model": state}, tmp_path / "finetuned.pth")
    check_loads("mae-base-finetuned-tiny", tmp_path / "finetuned.pth", model)
    with pytest.raises(CheckpointError, match=r"2 missing: norm\.weight, norm\.bias; 4 unexpected: fc_norm"):
        load_model("mae-base-tiny", checkpoint=tmp_path / "finetuned.pth")


def test_transformers_folder_of_the_image_mae(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = ViTMAEConfig(
        image_size=64, hidden_size=48, num_hidden_layers=12, num_attention_heads=3, intermediate_size=192,
        decoder_hidden_size=32, decoder_num_hidden_layers=1, decoder_num_attention_heads=2,
        decoder_intermediate_size=32, layer_norm_eps=1e-6, mask_ratio=0.0, initializer_range=0.2,
    )  # fmt: skip
    by_hand = ViTMAEForPreTraining(config).eval()
    by_hand.save_pretrained(tmp_path)
    model = load_model("mae-base-tiny", checkpoint=tmp_path, tap="residual")
    frames = noise_frames(model.input)
    noise = torch.arange(16.0).expand(2, -1)  # in order: nothing is shuffled
    with torch.no_grad():
        hidden = by_hand.vit(model.prepare(frames), noise=noise, output_hidden_states=True).hidden_states
    got = model.activations(frames)
    errors = [relative_error(got[f"blocks.{i}"].numpy(), hidden[i + 1].numpy()) for i in range(12)]
    assert max(errors) < 1e-5


# What a block is called in files (by `save_pretrained` of every version), and in the networks of transformers 5.2x.
NEWER = {
    "encoder.layer.": "layers.", "attention.attention.query.": "attention.q_proj.",
    "attention.attention.key.": "attention.k_proj.", "attention.attention.value.": "attention.v_proj.",
    "attention.output.dense.": "attention.o_proj.", "intermediate.dense.": "mlp.fc1.", "output.dense.": "mlp.fc2.",
}  # fmt: skip


def test_image_mae_with_the_names_of_any_transformers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = ViTMAEConfig(
        image_size=64, hidden_size=48, num_hidden_layers=12, num_attention_heads=3, intermediate_size=192,
        decoder_hidden_size=32, decoder_num_hidden_layers=1, decoder_num_attention_heads=2,
        decoder_intermediate_size=32, initializer_range=0.2,
    )  # fmt: skip
    by_hand = ViTMAEForPreTraining(config)
    by_hand.save_pretrained(tmp_path / "folder")
    old = load_file(tmp_path / "folder/model.safetensors")
    assert "vit.encoder.layer.11.attention.attention.query.weight" in old
    new = {}
    for name, tensor in old.items():
        for before, after in NEWER.items() if name.startswith("vit.") else ():
            name = name.replace(before, after)
        new[name] = tensor
    assert "vit.layers.11.attention.q_proj.weight" in new
    bare = {name.removeprefix("vit."): tensor for name, tensor in new.items() if name.startswith("vit.")}
    files = {"old": old, "new": new, "as-it-is": dict(by_hand.state_dict()), "encoder": bare,
             "module": prefixed(new, "module.")}  # fmt: skip
    expected = load_model("mae-base-tiny", checkpoint=tmp_path / "folder").network.module.state_dict()
    query = old["vit.encoder.layer.3.attention.attention.query.weight"]
    torch.testing.assert_close(expected["blocks.3.attn.qkv.weight"][:48], query, rtol=0, atol=0)
    for name, state in files.items():
        torch.save(state, tmp_path / f"{name}.pth")
        found = load_model("mae-base-tiny", checkpoint=tmp_path / f"{name}.pth").network.module.state_dict()
        assert found.keys() == expected.keys()
        for key, tensor in expected.items():
            torch.testing.assert_close(found[key], tensor, rtol=0, atol=0, msg=f"{name}: {key}")


@pytest.mark.parametrize("prefix", ["", "encoder.", "backbone."])
def test_mvd_student_file_with_its_decoders(tmp_path: Path, prefix: str) -> None:
    model, _ = reference("mvd-base-tiny")
    state = without_key_bias(model)
    # The table comes from the file, not from a formula.
    table = torch.randn(state["pos_embed"].shape, generator=torch.Generator().manual_seed(0))
    model.network.module.get_buffer("pos_embed").copy_(table)
    file = split_biases(state | {"pos_embed": table})
    assert "blocks.0.attn.q_bias" in file
    decoders = {f"{part}_{kind}": torch.zeros(3) for part in ("mask_token", "pos_embed") for kind in ("img", "vid")}
    decoders |= {"down_img.0.weight": torch.zeros(2), "decoder_vid.blocks.0.norm1.weight": torch.zeros(2)}
    record = {"model": prefixed(file, prefix) | decoders, "epoch": 399, "args": argparse.Namespace(model="mvd")}
    torch.save(record, tmp_path / "mvd.pth")
    check_loads("mvd-base-tiny", tmp_path / "mvd.pth", model)


def sinusoid(n_tokens: int, width: int) -> Tensor:
    """Return the 1-D position table of VideoMAE: sine at even, cosine at odd channels."""
    channel = np.arange(width)
    angle = np.arange(n_tokens)[:, None] / 10000 ** (2 * (channel // 2) / width)
    return torch.from_numpy(np.where(channel % 2 == 0, np.sin(angle), np.cos(angle)).astype(np.float32))[None]


@pytest.mark.parametrize(
    ("name", "container", "prefix"),
    [("videomae-base-tiny", "model", "encoder."), ("videomae-base-finetuned-tiny", "module", "")],
)
def test_videomae_file_of_its_authors(tmp_path: Path, name: str, container: str, prefix: str) -> None:
    # An encoder of timm's blocks with VideoMAE's position table, independent of transformers.
    torch.manual_seed(0)
    encoder = TubeletTransformer(n_frames=16, size=64, width=48, depth=12, n_heads=3).eval()
    for parameter_name, parameter in encoder.named_parameters():
        torch.nn.init.normal_(parameter, std=0.2)
        if parameter_name.endswith("attn.qkv.bias"):
            with torch.no_grad():
                parameter.chunk(3)[1].zero_()
    encoder.pos_embed.copy_(sinusoid(128, 48))
    file = split_biases({n: t for n, t in encoder.state_dict().items() if n != "pos_embed"})
    if prefix:
        others = {"mask_token": torch.zeros(1, 1, 2), "encoder_to_decoder.weight": torch.zeros(2, 2)}
        others["decoder.blocks.0.norm1.weight"] = torch.zeros(2)
    else:
        others = {f"fc_norm.{p}": file.pop(f"norm.{p}") for p in ("weight", "bias")}
        others |= {"head.weight": torch.zeros(400, 48), "head.bias": torch.zeros(400)}
    torch.save({container: prefixed(file, prefix) | others}, tmp_path / "videomae.pth")
    model = load_model(name, checkpoint=tmp_path / "videomae.pth")
    frames = noise_frames(model.input)
    clips = model.prepare(frames).transpose(1, 2)  # (B, 3, T, H, W)
    got = model.activations(frames)
    x = encoder.patch_embed(clips) + encoder.pos_embed
    for i, block in enumerate(encoder.blocks):
        x = block(x)
        # timm's blocks have eps 1e-6 here, transformers' 1e-12.
        assert relative_error(got[f"encoder.layer.{i}"].numpy(), x.detach().numpy()) < 1e-4


def videomae_config(*, mean_pooling: bool) -> VideoMAEConfig:
    return VideoMAEConfig(
        image_size=64, hidden_size=48, num_attention_heads=3, intermediate_size=192, use_mean_pooling=mean_pooling,
        decoder_hidden_size=32, decoder_num_hidden_layers=1, decoder_num_attention_heads=2,
        decoder_intermediate_size=32, initializer_range=0.2,
    )  # fmt: skip


@pytest.mark.parametrize("finetuned", [False, True])
def test_videomae_folder_of_transformers(tmp_path: Path, finetuned: bool) -> None:
    torch.manual_seed(0)
    kind = VideoMAEForVideoClassification if finetuned else VideoMAEForPreTraining
    by_hand = kind(videomae_config(mean_pooling=finetuned)).eval()
    for parameter_name, parameter in by_hand.named_parameters():
        if parameter_name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.2)
    by_hand.save_pretrained(tmp_path)
    model = load_model("videomae-base-finetuned-tiny" if finetuned else "videomae-base-tiny", checkpoint=tmp_path)
    frames = noise_frames(model.input)
    with torch.no_grad():
        hidden = by_hand.videomae(model.prepare(frames), output_hidden_states=True).hidden_states
    got = model.activations(frames)
    assert max(relative_error(got[f"encoder.layer.{i}"].numpy(), hidden[i + 1].numpy()) for i in range(12)) < 1e-5


def test_videomae_weights_whose_biases_were_lost_are_refused(tmp_path: Path) -> None:
    by_hand = VideoMAEForPreTraining(videomae_config(mean_pooling=False))  # transformers starts biases at zero
    by_hand.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"all 24 q and v biases .* are zero"):
        load_model("videomae-base-tiny", checkpoint=tmp_path)


def test_missing_unexpected_and_misshapen_weights_are_listed_and_nothing_is_loaded(tmp_path: Path) -> None:
    _, state = reference("cnn-static-object-tiny")
    state["surplus.weight"] = torch.zeros(2)
    del state["layer1.0.conv1.weight"]
    state["fc.bias"] = torch.zeros(7)
    torch.save(state, tmp_path / "wrong.pth")
    expected = (
        r"1 missing: layer1\.0\.conv1\.weight; 1 unexpected: surplus\.weight; "
        r"1 of another shape: fc\.bias is \(7,\) where cnn-static-object-tiny has \(1000,\)"
    )
    with pytest.raises(CheckpointError, match=expected):
        load_model("cnn-static-object-tiny", checkpoint=tmp_path / "wrong.pth")


def test_weights_of_another_family_are_refused_with_a_short_list(tmp_path: Path) -> None:
    _, state = reference("cnn-flow-selfsup-tiny")
    torch.save(state, tmp_path / "flow.pth")
    with pytest.raises(CheckpointError, match=r"missing: .* and \d+ more; ") as caught:
        load_model("mae-base-tiny", checkpoint=tmp_path / "flow.pth")
    assert len(str(caught.value)) < 1500


def test_not_finite_weights_are_refused(tmp_path: Path) -> None:
    _, state = reference("cnn-static-object-tiny")
    state["fc.bias"][3] = torch.nan
    torch.save(state, tmp_path / "nan.pth")
    with pytest.raises(CheckpointError, match=r"NaN or infinity in fc\.bias"):
        load_model("cnn-static-object-tiny", checkpoint=tmp_path / "nan.pth")


class Hostile:
    """Writes a file when unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("kind", ["zip", "legacy", "plain-pickle", "folder"])
def test_hostile_pickle_does_not_run(tmp_path: Path, kind: str) -> None:
    _, state = reference("cnn-static-object-tiny")
    content = {"model": state, "extra": Hostile(tmp_path / "ran")}
    path = tmp_path / ("pytorch_model.bin" if kind == "folder" else "hostile.pth")
    if kind == "plain-pickle":
        path.write_bytes(pickle.dumps({"extra": Hostile(tmp_path / "ran")}, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind != "legacy")
    with pytest.raises(CheckpointError, match=r"more than tensors and plain values \(it asks for \S*getattr\)"):
        load_model("cnn-static-object-tiny", checkpoint=tmp_path if kind == "folder" else path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [("empty.pth", b""), ("text.pth", b"no checkpoint at all"), ("cut.pth", None), ("text.safetensors", b"x" * 64)],
)
def test_files_that_are_no_whole_checkpoint_are_refused(tmp_path: Path, name: str, content: bytes | None) -> None:
    if content is None:
        torch.save(reference("cnn-static-object-tiny")[1], tmp_path / "whole.pth")
        content = (tmp_path / "whole.pth").read_bytes()[:20_000]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=name):
        load_model("cnn-static-object-tiny", checkpoint=tmp_path / name)


def test_checkpoint_without_a_state_dict_says_what_it_holds(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "loss": 0.5}, tmp_path / "record.pth")
    with pytest.raises(CheckpointError, match=r"holds the entries epoch, loss; a state dict is wanted"):
        load_model("cnn-static-object-tiny", checkpoint=tmp_path / "record.pth")
