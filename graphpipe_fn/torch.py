"""
A remote model as a PyTorch module (extra `torch`): `nn.Sequential(backbone, RemoteModule(uri), head)`.

No gradient passes through it. What comes after it can be trained; what comes before it can't, and a backward pass
that would have to says so instead of leaving weights untrained in silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from graphpipe_fn.errors import BadTensor
from graphpipe_fn.graph_node import TIMEOUT_S, GraphNode
from graphpipe_fn.messages import StringTensor, Tensor
from graphpipe_fn.model import Model


class RemoteModule(torch.nn.Module):  # type: ignore[misc]  # Any where torch is not installed
    """
    Be a module whose work is done by a GraphPipe server.

    It has no parameters. Made of a URI it can be saved with `torch.save`, copied and sent to other processes. Under
    `torch.compile` it is a break in the graph.

    Args:
        model: A URI, as `transports.connect` takes it, or any Model: a Client with options of its own, a Cached one.
        input_names: Of forward()'s arguments, in their order; none for the model's own order.
        output_names: What forward() returns; none for the model's default outputs.
        config: For the model, unread.
        timeout_s: How long a request to a URI may take; None for ever.
        dtype: What floating-point inputs are cast to, such as torch.float32 behind a backbone under autocast; None
            sends them as they are, and bfloat16, which GraphPipe does not have, as the same values in float32.

    Raises:
        BadConfig: not a URI that can be called.
    """

    def __init__(
        self,
        model: str | Model,
        *,
        input_names: Sequence[str] | str = (),
        output_names: Sequence[str] | str = (),
        config: str = "",
        timeout_s: float | None = TIMEOUT_S,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.node = GraphNode(
            model, input_names=input_names, output_names=output_names, config=config, timeout_s=timeout_s
        )
        self.dtype = dtype

    def forward(self, *inputs: Any) -> Any:
        """
        Ask the model.

        Args:
            inputs: Tensors of any device and layout; or anything else that makes a GraphPipe tensor, as text does.

        Returns:
            The output, or a tuple where the model answers with another number than one: new tensors of the dtypes
            that the model answers in, on the device of the first tensor among the inputs; strings as a StringTensor.

        Raises:
            GraphPipeError: see Client.infer.
        """
        if torch.compiler.is_compiling():  # not by a decorator: that would import the compiler, 6 s, for everybody
            return torch.compiler.disable(self._asked)(*inputs)
        return self._asked(*inputs)

    def close(self) -> None:
        """Close the connections that are kept, if any are."""
        self.node.close()

    def _asked(self, *inputs: Any) -> Any:
        arrays = [array_of(value, self.dtype) if isinstance(value, torch.Tensor) else value for value in inputs]
        outputs = outputs_of(self.node, inputs, self.node.infer(arrays))
        return outputs[0] if len(outputs) == 1 else outputs

    def extra_repr(self) -> str:
        """Return what the module's line in a printed model says."""
        return self.node.name


def array_of(tensor: torch.Tensor, dtype: torch.dtype | None = None) -> np.ndarray[Any, Any]:
    """
    Return a tensor's values as a numpy array, cut off from autograd and uncopied where that can be.

    Raises:
        BadTensor: numpy has no such dtype or layout.
    """
    if dtype is not None and tensor.is_floating_point():
        tensor = tensor.to(dtype)
    if tensor.dtype is torch.bfloat16:
        tensor = tensor.float()
    try:
        array: np.ndarray[Any, Any] = tensor.numpy(force=True)
    except (TypeError, RuntimeError) as exc:
        raise BadTensor(
            f"a torch tensor of {tensor.dtype}, {tensor.layout}, can't be sent ({exc}); convert it, as by "
            ".float() or .to_dense()"
        ) from exc
    return array


def outputs_of(node: GraphNode, inputs: Sequence[Any], answers: Sequence[Tensor]) -> tuple[Any, ...]:
    """
    Return what a model answered as tensors of torch.

    Args:
        inputs: What it was asked with. Where autograd follows one of them, it follows the outputs too, and finds
            node.no_gradient() on its way back.
    """
    given = [value for value in inputs if isinstance(value, torch.Tensor)]
    device = given[0].device if given else torch.device("cpu")
    followed = [tensor for tensor in given if tensor.requires_grad] if torch.is_grad_enabled() else []
    outputs: list[Any] = []
    for answer in answers:
        if isinstance(answer, StringTensor):
            outputs.append(answer)
            continue
        # Copied, since an answer is a read-only view, at any alignment, and of a model in this process perhaps even
        # of the input; torch's tensors may be written to.
        output = torch.from_numpy(np.array(answer)).to(device)
        outputs.append(_DeadEnd.apply(node, output, *followed) if followed else output)
    return tuple(outputs)


class _DeadEnd(torch.autograd.Function):  # type: ignore[misc]
    """Tie an output to the inputs it came from, so that a gradient on its way to them is refused."""

    @staticmethod
    def forward(ctx: Any, node: GraphNode, output: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        ctx.node = node
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, *_: torch.Tensor) -> None:
        raise ctx.node.no_gradient()
