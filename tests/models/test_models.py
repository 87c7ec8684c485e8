"""Backbones: what their names mean, what they give, their published sizes, and where their maps point."""

import pytest
import torch
import torchvision
from torch import nn

from trainables.models import build_model
from trainables.models.cam import foreground, foreground_probability, grad_cam
from trainables.models.output import Output
from trainables.settings.backbones import Backbone, map_side, parse_backbone

CONVNETS = ["wrn10-1", "resnet18", "resnet50", "vgg13", "vgg32", "mobilenetv2"]
FAMILIES = [*CONVNETS, "vit-ti8"]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def output_of(name: str, image_size: int, batch: int = 2) -> tuple[nn.Module, Output]:
    model = build_model(name, 5, image_size).eval()
    with torch.no_grad():
        return model, model(torch.randn(batch, 3, image_size, image_size))


def parameters(name: str, num_classes: int, image_size: int) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in build_model(name, num_classes, image_size).parameters())


@pytest.mark.parametrize(
    ("name", "backbone"),
    [
        ("wrn40-4", Backbone("wrn", 40, 4)),
        ("resnet101", Backbone("resnet", 101)),
        ("vgg19", Backbone("vgg", 19)),
        ("vgg32", Backbone("vgg32")),
        ("mobilenetv2", Backbone("mobilenetv2")),
        ("vit-ti4", Backbone("vit", width=192, patch=4)),
        ("vit-s8", Backbone("vit", width=384, patch=8)),
        ("vit-b16", Backbone("vit", width=768, patch=16)),
    ],
)
def test_a_name_gives_the_family_and_its_numbers(name: str, backbone: Backbone) -> None:
    assert parse_backbone(name) == backbone


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("wrn41-4", "depth is 6n\\+4"),
        ("wrn40-0", "width at least 1"),
        ("resnet43", "did you mean 'resnet"),
        ("vgg", "did you mean 'vgg"),
        ("vit-l16", "did you mean 'vit-b16'"),
        ("vit-s0", "is not a backbone"),
        ("mobilenet", "did you mean 'mobilenetv2'"),
        ("?", "write wrn<depth>-<width>, resnet18"),
    ],
)
def test_another_name_is_refused_with_the_nearest_and_the_forms(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_backbone(name)


@pytest.mark.parametrize("image_size", [32, 64])
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_gives_an_output_on_the_map_that_its_name_tells(name: str, image_size: int) -> None:
    _, output = output_of(name, image_size)
    side = map_side(name, image_size)
    assert output.logits_BK.shape == (2, 5)
    assert len(output.features_BC) == 2
    if output.evidence_BKhw is not None:
        assert output.evidence_BKhw.shape == (2, 5, side, side)
        assert output.tokens_BNC is None
    else:
        assert output.tokens_BNC is not None
        assert output.tokens_BNC.shape == (2, 1 + side**2, output.features_BC.shape[1])


@pytest.mark.parametrize("name", ["resnet18", "vgg13", "mobilenetv2", "vit-ti16"])
def test_large_images_are_reduced_as_on_imagenet(name: str) -> None:
    _, output = output_of(name, 224, batch=1)
    side = {"vit-ti16": 14}.get(name, 7)
    assert map_side(name, 224) == side
    if output.evidence_BKhw is not None:
        assert output.evidence_BKhw.shape == (1, 5, side, side)


@pytest.mark.parametrize(("name", "image_size", "multiple"), [("vit-b16", 40, 16), ("vgg16", 48, 32)])
def test_images_of_which_patches_or_pooling_would_lose_a_part_are_refused(
    name: str, image_size: int, multiple: int
) -> None:
    with pytest.raises(ValueError, match=f"multiple of {multiple} px, not {image_size} px"):
        build_model(name, 5, image_size)


@pytest.mark.parametrize(
    ("name", "image_size", "side"),
    [("resnet18", 28, 4), ("resnet18", 84, 3), ("wrn10-1", 30, 8), ("vgg32", 28, 4), ("mobilenetv2", 28, 4)],
)
def test_strided_convolutions_round_up_the_map_of_an_uneven_image(name: str, image_size: int, side: int) -> None:
    _, output = output_of(name, image_size, batch=1)
    assert map_side(name, image_size) == side
    assert output.evidence_BKhw is not None
    assert output.evidence_BKhw.shape == (1, 5, side, side)


@pytest.mark.parametrize("name", CONVNETS)
def test_logits_are_the_head_of_the_pooled_features_and_the_mean_of_the_maps(name: str) -> None:
    model, output = output_of(name, 64)
    assert output.evidence_BKhw is not None
    head = model.get_submodule("head")
    with torch.no_grad():
        of_features = head(output.features_BC[:, :, None, None]).logits_BK
    torch.testing.assert_close(output.logits_BK, of_features, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(output.logits_BK, output.evidence_BKhw.mean(dim=(2, 3)), rtol=1e-4, atol=1e-4)


def test_a_vit_is_torchvisions() -> None:
    model = build_model("vit-ti8", 5, 32).eval()
    body = model.get_submodule("body")
    nn.init.normal_(body.get_submodule("heads.head").weight)  # type: ignore[arg-type]
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(images).logits_BK, body(images))


@pytest.mark.parametrize("name", ["vgg32", "vit-ti8"])
def test_logits_and_features_are_float32_under_autocast(name: str) -> None:
    model = build_model(name, 5, 32)
    with torch.autocast("cpu", torch.bfloat16):
        output = model(torch.randn(2, 3, 32, 32))
    assert output.logits_BK.dtype == output.features_BC.dtype == torch.float32


@pytest.mark.parametrize("name", ["wrn10-1", "resnet18", "vgg13", "vgg32", "mobilenetv2", "vit-ti8"])
def test_bf16_logits_are_as_distinct_as_the_features_that_they_are_linear_in(name: str) -> None:
    model = build_model(name, 5, 32)
    weight, bias = list(model.parameters())[-2:]
    nn.init.normal_(weight)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        output = model(
            torch.randn(24, 3, 32, 32)
        )  # in train mode: an untrained network's running statistics tell little
    exact = output.features_BC.double() @ weight.detach().double().flatten(1).T + bias.detach().double()
    torch.testing.assert_close(output.logits_BK.double(), exact, rtol=1e-5, atol=1e-5 * exact.abs().max().item())
    assert output.logits_BK.unique().numel() == exact.float().unique().numel() > 100


@pytest.mark.parametrize(
    ("name", "num_classes", "image_size", "published"),
    [
        ("wrn40-4", 10, 32, 8_949_210),  # 8.9M in the paper
        ("resnet18", 10, 32, 11_173_962),  # 11.17M, as counted for CIFAR-10 in kuangliu/pytorch-cifar
        ("resnet18", 1000, 224, 11_689_512),  # from here on torchvision's documentation
        ("resnet50", 1000, 224, 25_557_032),
        ("resnet101", 1000, 224, 44_549_160),
        ("mobilenetv2", 1000, 224, 3_504_872),
        ("vit-b16", 1000, 224, 86_567_656),
        ("vit-b32", 1000, 224, 88_224_232),
        ("vit-s16", 1000, 224, 22_050_664),  # from here on DeiT's, which timm counts
        ("vit-ti16", 1000, 224, 5_717_416),
    ],
)
def test_the_number_of_parameters_is_the_published_one(
    name: str, num_classes: int, image_size: int, published: int
) -> None:
    assert parameters(name, num_classes, image_size) == published


@pytest.mark.parametrize("depth", [13, 16, 19])
def test_a_vggs_convolutions_are_torchvisions(depth: int) -> None:
    with torch.device("meta"):
        ours = build_model(f"vgg{depth}", 10, 32).get_submodule("body")
        theirs = getattr(torchvision.models, f"vgg{depth}_bn")().features
    assert [str(layer) for layer in ours.children()] == [str(layer) for layer in theirs]


def test_vgg32_has_nine_convolutions_and_drops_channels_only_in_training() -> None:
    model = build_model("vgg32", 6, 32)
    convolutions = [m for m in model.get_submodule("body").modules() if isinstance(m, nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == [64, 64, *[128] * 7]
    assert all(abs(c.weight.std().item() - 0.05) < 0.005 for c in convolutions)
    images = torch.randn(4, 3, 32, 32)
    assert not model(images).logits_BK.equal(model(images).logits_BK)
    model.eval()
    assert model(images).logits_BK.equal(model(images).logits_BK)


def vit(head_scale: float = 1.0) -> nn.Module:
    """A ViT whose head has an opinion."""
    model = build_model("vit-ti8", 3, 32)
    nn.init.normal_(model.get_submodule("body.heads.head").weight, std=head_scale)  # type: ignore[arg-type]
    return model


LABELS = torch.tensor([0, 2, 1, 2])


def test_grad_cam_is_its_definition_image_by_image() -> None:
    model = vit()
    images = torch.randn(4, 3, 32, 32)
    cam = foreground(model(images), LABELS)

    model.double()
    for image, label, found in zip(images.double(), LABELS, cam, strict=True):
        # The reference: the last block cut out of the network, one image at a time, in float64.
        tokens = model(image[None]).tokens_BNC.detach().requires_grad_()
        body = model.get_submodule("body")
        last = body.get_submodule("encoder.layers.encoder_layer_11")
        features = body.get_submodule("encoder.ln")(last(tokens))[:, 0]
        body.get_submodule("heads")(features)[0, label].backward()
        assert tokens.grad is not None
        expected = torch.zeros(4, 4, dtype=torch.float64)
        for channel in range(tokens.shape[2]):
            weight = sum(tokens.grad[0, 1 + n, channel] for n in range(16)) / 16
            expected += weight * tokens.detach()[0, 1:, channel].view(4, 4)
        expected = expected.clamp_min(0)
        assert expected.max() > 0
        torch.testing.assert_close(found.double(), expected / expected.max(), rtol=1e-3, atol=1e-4)


def test_grad_cam_leaves_parameters_and_the_graph_as_they_were() -> None:
    model = vit()
    images = torch.randn(4, 3, 32, 32)
    nn.functional.cross_entropy(model(images).logits_BK, LABELS).backward()
    expected = [p.grad for p in model.parameters()]
    model.zero_grad()

    output = model(images)
    cam = foreground(output, LABELS)
    assert not cam.requires_grad
    assert all(p.grad is None for p in model.parameters())
    nn.functional.cross_entropy(output.logits_BK, LABELS).backward()
    torch.testing.assert_close([p.grad for p in model.parameters()], expected)


def test_a_grad_cam_without_a_positive_position_is_zero() -> None:
    cam = foreground(vit(head_scale=0)(torch.randn(4, 3, 32, 32)), LABELS)
    assert cam.equal(torch.zeros(4, 4, 4))


def test_grad_cam_finds_the_only_token_that_speaks_for_the_class() -> None:
    tokens = torch.zeros(1, 5, 2, requires_grad=True)
    with torch.no_grad():
        tokens[0, 3, 1] = 2.0
    logits = torch.stack([tokens[:, 1:, 1].sum(1), -tokens[:, 1:, 1].sum(1)], dim=1)
    assert grad_cam(logits, tokens, torch.tensor([0])).tolist() == [[[0, 0], [1, 0]]]
    assert grad_cam(logits, tokens, torch.tensor([1])).tolist() == [[[0, 0], [0, 0]]]


def test_the_foreground_of_a_convolutional_network_is_its_class_probability() -> None:
    output = build_model("wrn10-1", 3, 32)(torch.randn(4, 3, 32, 32))
    cam = foreground(output, LABELS)
    assert cam.equal(foreground_probability(output.evidence_BKhw, LABELS))
    assert not cam.requires_grad
