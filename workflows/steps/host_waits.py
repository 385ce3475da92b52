"""Where a computation would make the host wait for a GPU, found on a CPU.

    with HostWaits() as host:
        module, batch = module.to(DEVICE), batch.to(DEVICE)
        losses(module, batch)["total"].backward()
    assert host.waits == []

Inside, torch's device `meta` is a pretended GPU: a tensor on it says so, and computes on the CPU with real numbers. So
whatever asks for a tensor's device gets that one, tensors on the host are told from those on the device, and a
computation gives the numbers of the CPU, waits or none. What waits is what `torch.cuda.set_sync_debug_mode` reports:

    a number read from the device (`float`, `if`, `tolist`, a slice up to a tensor) and a copy from it
    a shape that depends on numbers (boolean indices, `nonzero`, `masked_select`, `unique`)
    a copy to the device without `non_blocking=True`; `torch.tensor(..., device=...)` is one, a host index another

Tensors of both places in one operation are an error, as on a GPU. What torch's own GPU kernels do inside is not seen:
that of CTC copies its lengths to the device and waits, whoever calls it.
"""

import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE = torch.device("meta")
HOST = torch.device("cpu")
ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
INDEXED = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_unsafe_index", "aten::_index_put_impl_")
OF_BOTH = (*INDEXED, "aten::_to_copy", "aten::copy_", "aten::_ctc_loss", "aten::_ctc_loss_backward")
"""Operations that may take tensors of both places; CTC takes lengths of the host."""
NUMBERS_DECIDE = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
ALSO = ("aten::masked_scatter_backward",)
"""Operations without these tags that call one with them."""


class OnDevice(Tensor):
    """A tensor on the pretended device; `numbers` holds it on the CPU."""

    numbers: Tensor

    @staticmethod
    def __new__(cls, numbers: Tensor) -> "OnDevice":
        made = Tensor._make_wrapper_subclass(
            cls, numbers.size(), numbers.stride(), numbers.storage_offset(), dtype=numbers.dtype, device=DEVICE
        )
        made.numbers = numbers
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError("a tensor of the pretended device is used outside of `HostWaits`")

    def __repr__(self, **_: Any) -> str:
        return f"OnDevice({self.numbers})"


class HostWaits(TorchDispatchMode):
    """`waits` says of each wait what it was and where: `index with booleans at methods/shared/divergence.py:58`."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self._of_the_host = _NumbersOfTheHost()

    def __enter__(self) -> "HostWaits":
        self._of_the_host.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._of_the_host.__exit__(*error)

    def __torch_dispatch__(self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        kwargs, given, of_numbers = dict(kwargs or {}), [], {}

        def numbers_of(each: Tensor) -> Tensor:
            given.append(each)
            if not isinstance(each, OnDevice):
                return each
            of_numbers[id(each.numbers)] = each
            return each.numbers

        def placed(each: Tensor) -> Tensor:  # what was changed in place comes back as the tensor that was given
            return of_numbers[id(each)] if id(each) in of_numbers else OnDevice(each)

        numbers = of_tensors(numbers_of, args)
        further = {key: of_tensors(numbers_of, value) for key, value in kwargs.items()}
        source = DEVICE if of_numbers else HOST
        target = source if kwargs.get("device") is None else torch.device(kwargs["device"])
        if (what := _wait(function, args, kwargs, source, target)) is not None:
            self.count(what)
        _check_places(function, given, kwargs, target)
        if further.get("device") is not None:
            further["device"] = HOST
        made = function(*numbers, **further)
        return made if target == HOST else of_tensors(placed, made)

    def count(self, what: str) -> None:
        self.waits.append(f"{what} {_place()}")


def of_tensors(change: Callable[[Tensor], Tensor], value: Any) -> Any:
    """`value` with `change` of every tensor in it, in lists and tuples too."""
    if isinstance(value, Tensor):
        return change(value)
    return type(value)([of_tensors(change, each) for each in value]) if isinstance(value, (list, tuple)) else value


class _NumbersOfTheHost(TorchFunctionMode):
    """What torch does between numbers of Python and tensors of a device, in two steps: through a tensor of the host."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if function is Tensor.tolist:
            return function(args[0].to(HOST))
        if function in (torch.tensor, torch.as_tensor) and torch.device(kwargs.get("device") or HOST) == DEVICE:
            return function(*args, **{**kwargs, "device": HOST}).to(DEVICE)
        return function(*args, **kwargs)


def _wait(
    function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], source: torch.device, target: torch.device
) -> str | None:
    """What an operation waits for, or None."""
    name = function._schema.name
    if name == "aten::_to_copy":
        return _copied(source, target, kwargs.get("non_blocking", False))
    if name == "aten::copy_":
        places = [DEVICE if isinstance(each, OnDevice) else HOST for each in args[:2]]
        return _copied(places[1], places[0], args[2] if len(args) > 2 else kwargs.get("non_blocking", False))
    if source == HOST:
        return None
    if name in INDEXED:
        indices = [index for index in args[1] if index is not None]
        if isinstance(args[0], OnDevice) and not all(isinstance(index, OnDevice) for index in indices):
            return "index on the host"
        return "index with booleans" if any(index.dtype in (torch.bool, torch.uint8) for index in indices) else None
    if name == "aten::_ctc_loss":
        return "lengths of CTC on the device" if any(isinstance(each, OnDevice) for each in args[2:4]) else None
    numbers_decide = NUMBERS_DECIDE & set(function.tags) or name in ALSO
    return name.removeprefix("aten::") if numbers_decide else None


def _copied(source: torch.device, target: torch.device, non_blocking: bool) -> str | None:
    if source == target:
        return None
    if target == HOST:
        return "copy to the host"
    return None if non_blocking else "copy to the device without non_blocking"


def _check_places(function: Any, given: Sequence[Tensor], kwargs: Mapping[str, Any], target: torch.device) -> None:
    """Raise RuntimeError for what a GPU refuses: tensors of both places, numbers of a CPU's generator."""
    name = function._schema.name
    elsewhere = [each for each in given if not isinstance(each, OnDevice) and (each.dim() or each.device != HOST)]
    if target == DEVICE and elsewhere and name not in OF_BOTH:
        raise RuntimeError(f"{name} gets a tensor of the host and one of the device {_place()}")
    if target == DEVICE and kwargs.get("generator") is not None:
        raise RuntimeError(f"{name} draws for the device from a generator of the host {_place()}")


def _place() -> str:
    """File and line of the innermost frame that is no library's, or the operation whose gradient is computed."""
    if (node := torch._C._current_autograd_node()) is not None:
        return f"in the backward pass ({node.name()})"
    frame = sys._getframe(1)
    while frame is not None and (frame.f_code.co_filename in (__file__, "<string>") or _of_library(frame)):
        frame = frame.f_back
    path = Path(frame.f_code.co_filename)
    return f"at {path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}:{frame.f_lineno}"


def _of_library(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith((*LIBRARIES, "<frozen"))
