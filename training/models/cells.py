"""Recurrent layers that know each row's true length, as trained and as exported.

All take states [batch, time, size] and lengths int64 [batch], and return [batch, time, width] with
width = hidden, or 2 hidden in both directions.  Beyond a row's length the result means nothing, and
the backward direction starts at each row's own end.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch._higher_order_ops import scan
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

Carry = tuple[Tensor, ...]
# What torch takes for an operator's attributes, lists among it; ours are numbers and words.
Attribute = (
    int | float | str | bool | Sequence[int] | Sequence[float] | Sequence[str] | Sequence[bool]
)


class RecurrentCell(nn.Module, ABC):
    """One step of a recurrence; the input's share is computed for all steps at once."""

    @abstractmethod
    def inputs(self, states: Tensor) -> Tensor:
        """Return the input's share of what a step adds up [..., gates]."""

    @abstractmethod
    def begin(self, batch: Tensor) -> Carry:
        """Return what is carried into the first step, the hidden state [batch, hidden] first."""

    @abstractmethod
    def step(self, carry: Carry, inputs: Tensor) -> Carry:
        """Return what is carried out of a step."""


class TanhCell(RecurrentCell):
    """The plain cell of the source article: h_t = tanh(W_hh h_{t-1} + W_xh x_t + b_h).

    Its output o_t = W_ho h_t + b_o is a linear layer on the state, so the classifier's head is it.
    """

    def __init__(self, size: int, hidden: int) -> None:
        """Make W_xh with b_h, and W_hh, orthogonal at first so that long series neither fade."""
        super().__init__()
        self.hidden = hidden
        self.x = nn.Linear(size, hidden)
        self.h = nn.Linear(hidden, hidden, bias=False)
        nn.init.orthogonal_(self.h.weight)

    def inputs(self, states: Tensor) -> Tensor:
        """Return W_xh x_t + b_h."""
        share: Tensor = self.x(states)
        return share

    def begin(self, batch: Tensor) -> Carry:
        """Return h_0 = 0."""
        return (batch.new_zeros(batch.shape[0], self.hidden),)

    def step(self, carry: Carry, inputs: Tensor) -> Carry:
        """Return h_t."""
        (h,) = carry
        return (torch.tanh(self.h(h) + inputs),)


class GatedCell(RecurrentCell):
    """The gated cell of the source article, with s the logistic function.

    Candidate     c~_t = tanh(W_c [h_{t-1}, x_t] + b_c)
    Input gate    i_t  = s(W_i [h_{t-1}, x_t] + b_i)
    Forget gate   f_t  = s(W_f [h_{t-1}, x_t] + b_f)
    Output gate   o_t  = s(W_o [h_{t-1}, x_t] + b_o)
    Memory        c_t  = f_t c_{t-1} + i_t c~_t
    State         h_t  = o_t tanh(c_t)

    Each W acts on the joined vector as the sum of one part on h_{t-1} and one on x_t.
    """

    def __init__(self, size: int, hidden: int) -> None:
        """Make all W and b; the forget gate begins open (b_f = 1), so that memory lasts."""
        super().__init__()
        self.hidden = hidden
        self.x = nn.Linear(size, 4 * hidden)
        self.h = nn.Linear(hidden, 4 * hidden, bias=False)
        with torch.no_grad():
            self.x.bias[2 * hidden : 3 * hidden] = 1.0

    def inputs(self, states: Tensor) -> Tensor:
        """Return the x_t parts plus b, in the order c, i, f, o."""
        share: Tensor = self.x(states)
        return share

    def begin(self, batch: Tensor) -> Carry:
        """Return h_0 = 0 and c_0 = 0."""
        zeros = batch.new_zeros(batch.shape[0], self.hidden)
        return zeros, zeros.clone()

    def step(self, carry: Carry, inputs: Tensor) -> Carry:
        """Return h_t and c_t."""
        h, c = carry
        candidate, let_in, forget, out = (self.h(h) + inputs).chunk(4, 1)
        c = torch.sigmoid(forget) * c + torch.sigmoid(let_in) * torch.tanh(candidate)
        return torch.sigmoid(out) * torch.tanh(c), c


class ScanLayer(nn.Module):
    """One or both directions of a cell of our own; exported as the operator Scan."""

    def __init__(self, cell: str, size: int, hidden: int, *, bidirectional: bool) -> None:
        """Make one cell a direction; ``cell`` is "tanh" or "gated"."""
        super().__init__()
        made = TanhCell if cell == "tanh" else GatedCell
        self.forward_cell = made(size, hidden)
        self.backward_cell = made(size, hidden) if bidirectional else None

    def forward(self, states: Tensor, lengths: Tensor) -> Tensor:
        """Return the states of all steps."""
        onward = _recur(self.forward_cell, states)
        if self.backward_cell is None:
            return onward
        # Turned around within its length a row begins at its own end, and padding comes after it.
        order = _turned(states, lengths)
        back = _recur(self.backward_cell, _reorder(states, order))
        return torch.cat((onward, _reorder(back, order)), 2)


class BuiltInLayer(nn.Module):
    """torch's own LSTM or GRU; exported as the ONNX operator of that name.

    torch's exporter would unroll it into a loop, or freeze its length; the operator is written
    instead, with torch's weights in ONNX's order of gates.
    """

    def __init__(self, cell: str, size: int, hidden: int, *, bidirectional: bool) -> None:
        """Make one layer; ``cell`` is "lstm" or "gru"."""
        super().__init__()
        made = {"lstm": nn.LSTM, "gru": nn.GRU}[cell]
        self.cell = cell
        self.rnn = made(size, hidden, batch_first=True, bidirectional=bidirectional)

    def forward(self, states: Tensor, lengths: Tensor) -> Tensor:
        """Return the states of all steps."""
        if torch.onnx.is_in_onnx_export():
            return self._operator(states, lengths)
        packed = pack_padded_sequence(states, lengths.cpu(), batch_first=True, enforce_sorted=False)
        answer, _ = self.rnn(packed)
        padded, _ = pad_packed_sequence(answer, batch_first=True, total_length=states.shape[1])
        return padded

    def _operator(self, states: Tensor, lengths: Tensor) -> Tensor:
        batch, time = states.shape[:2]
        hidden, directions = self.rnn.hidden_size, 2 if self.rnn.bidirectional else 1
        attributes: dict[str, Attribute] = {
            "hidden_size": hidden,
            "direction": "bidirectional" if directions == 2 else "forward",
        }
        if self.cell == "gru":
            attributes["linear_before_reset"] = 1
        weights = (self._onnx(name, directions) for name in ("weight_ih", "weight_hh"))
        biases = [self._onnx(name, directions) for name in ("bias_ih", "bias_hh")]
        answer = torch.onnx.ops.symbolic_multi_out(
            self.cell.upper(),
            (states.transpose(0, 1), *weights, torch.cat(biases, 1), lengths.to(torch.int32)),
            attributes,
            dtypes=(states.dtype,),
            shapes=((time, directions, batch, hidden),),
            version=14,
        )[0]
        return answer.permute(2, 0, 1, 3).flatten(2)

    def _onnx(self, name: str, directions: int) -> Tensor:
        """Return a weight of all directions [directions, gates, ...], in ONNX's order of gates."""
        # torch: input, forget, cell, output; reset, update, new.  ONNX: i, o, f, c; z, r, h.
        order = [0, 3, 1, 2] if self.cell == "lstm" else [1, 0, 2]
        found = []
        for suffix in ("_l0", "_l0_reverse")[:directions]:
            gates = getattr(self.rnn, name + suffix).chunk(len(order))
            found.append(torch.cat([gates[gate] for gate in order]))
        return torch.stack(found)


def real_steps(states: Tensor, lengths: Tensor) -> Tensor:
    """Return which steps [batch, time] lie within their row's length."""
    return torch.arange(states.shape[1], device=states.device) < lengths.unsqueeze(1)


def _recur(cell: RecurrentCell, states: Tensor) -> Tensor:
    """Return the hidden state of every step [batch, time, hidden]."""
    carry = cell.begin(states)
    inputs = cell.inputs(states).transpose(0, 1)
    if torch.onnx.is_in_onnx_export():

        def body(carry: Carry, step: Tensor) -> tuple[Carry, Tensor]:
            carry = cell.step(carry, step)
            # The exporter refuses an output that shares memory with what is carried.
            return carry, carry[0].clone()

        hidden_states: Tensor = scan(body, carry, inputs, dim=0)[1]
        return hidden_states.transpose(0, 1)
    hidden = []
    for step in inputs.unbind(0):
        carry = cell.step(carry, step)
        hidden.append(carry[0])
    return torch.stack(hidden, 1)


def _turned(states: Tensor, lengths: Tensor) -> Tensor:
    """Return the step [batch, time] to take so that each row runs backwards within its length."""
    steps = torch.arange(states.shape[1], device=states.device).unsqueeze(0)
    ends = lengths.unsqueeze(1)
    return torch.where(steps < ends, ends - 1 - steps, steps)


def _reorder(states: Tensor, order: Tensor) -> Tensor:
    """Return the steps of each row in its own order."""
    return states.gather(1, order.unsqueeze(2).expand(-1, -1, states.shape[2]))
