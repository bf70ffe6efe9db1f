"""Where atrous rates stop meaning what they say: a 3x3 convolution that is wider than its features. No torch."""

from segpipe.params import ModelParams, Params

WITH_RATES = ("deeplabv3", "deeplabv3plus", "smp.DeepLabV3", "smp.DeepLabV3Plus")
_GRID = 16  # images are padded to a multiple of it, or of the output stride where that is larger


def feature_size(image_size: tuple[int, int], output_stride: int) -> tuple[int, int]:
    """Height and width of the encoder's last features for images of this height and width."""
    grid = max(_GRID, output_stride)
    height, width = (-(-pixels // grid) * grid // output_stride for pixels in image_size)
    return height, width


def rate_warnings(model: ModelParams, image_size: tuple[int, int] | None) -> list[str]:
    """A sentence on rates that act as a 1x1 convolution at this size, one on those that act along one axis only.

    The outer taps of a 3x3 kernel lie `rate` features away from its centre. Where no more than `rate` are in a row they
    see nothing but padding, wherever the kernel stands. Nothing without `image_size`: images of any size.
    """
    if image_size is None or model.arch not in WITH_RATES:
        return []
    height, width = feature_size(image_size, model.output_stride)
    everywhere = [rate for rate in model.atrous_rates if rate >= max(height, width)]
    one_way = [rate for rate in model.atrous_rates if min(height, width) <= rate < max(height, width)]
    return [
        f"{_of(rates)} of model.atrous_rates {acts}: at output_stride {model.output_stride} images of "
        f"{image_size[0]}x{image_size[1]} have features of {height}x{width}, and the outer taps of a 3x3 convolution "
        f"see only padding{where}{_others(min(height, width))}"
        for rates, acts, where in (
            (everywhere, "cannot be told from a 1x1 convolution", ""),
            (one_way, f"acts along the {'width' if width > height else 'height'} only", " along the other axis"),
        )
        if rates
    ]


def warnings_of_members(params: Params) -> list[str]:
    """The warnings of all members at the size their networks see, each once, with its members."""
    said: dict[str, list[str]] = {}
    for name in params.member_names:
        for line in rate_warnings(params.member(name).model, params.data.image_size):
            said.setdefault(line, []).append(name)
    return [f"member {', '.join(names)}: {line}" for line, names in said.items()]


def _others(size: int) -> str:
    return f"; only rates below {size} reach further" if size > 1 else ""


def _of(rates: list[int]) -> str:
    return f"{'rate' if len(rates) == 1 else 'each of the rates'} {', '.join(map(str, rates))}"
