from __future__ import annotations

from functools import partial

import pytest
from toy_models import Texts, refuse

from graphpipe_fn.chain import Chain, Configured
from graphpipe_fn.errors import BadTensor, UnknownName
from graphpipe_fn.messages import Error, InferRequest, StringTensor, strings
from graphpipe_fn.rows import ABOUT, ERRORS, decode_row_errors


def test_a_chain_hands_each_answer_to_the_next_model() -> None:
    """Outputs become inputs, in order, and the timings of all hops come back in order."""
    chain = Chain(Texts(str.upper, "first"), Texts(lambda text: text + "!", "second"))
    response = chain.infer(InferRequest((strings(["a", "b"]),)))
    assert response.outputs == (strings(["A!", "B!"]),)
    assert [timing.name for timing in response.timings] == ["first", "second"]


def test_without_row_errors_the_first_bad_row_fails_the_request() -> None:
    """An original client, which asks for no errors, gets one error and no half answer."""
    chain = Chain(Texts(str), Texts(partial(refuse, when="b")))
    with pytest.raises(BadTensor, match="b is refused"):
        chain.infer(InferRequest((strings(["a", "b"]),)))


def test_a_bad_row_leaves_its_neighbours_their_answers() -> None:
    """Later models never see a row that failed, and rows come back in their places."""
    second = Texts(partial(refuse, when="c"))
    chain = Chain(Texts(partial(refuse, when="a")), second)
    response = chain.infer(InferRequest((strings(["a", "b", "c", "d"]),), output_names=("", ERRORS)))
    texts, errors = response.outputs
    assert texts == strings(["", "b", "", "d"])
    assert decode_row_errors(errors) == [Error(42200, "a is refused"), None, Error(42200, "c is refused"), None]
    assert second.seen[0].inputs == (strings(["b", "c", "d"]),)


def test_the_errors_come_where_they_were_asked_for() -> None:
    """The order of outputs is the caller's, errors included."""
    chain = Chain(Texts(str), Texts(str))
    response = chain.infer(InferRequest((strings(["a"]),), output_names=(ERRORS, "text")))
    assert response.outputs == (strings([""]), strings(["a"]))


def test_where_every_row_failed_nobody_else_is_asked() -> None:
    """The next model is not called with an empty batch."""
    second = Texts(str)
    chain = Chain(Texts(partial(refuse, when="a")), second)
    response = chain.infer(InferRequest((strings(["a", "a"]),), output_names=("", ERRORS)))
    assert second.seen == []
    assert isinstance(response.outputs[1], StringTensor)
    assert all(response.outputs[1].values)


@pytest.mark.parametrize("names", [(ERRORS, ERRORS), (ERRORS, ABOUT, ABOUT)])
def test_asking_twice_for_what_is_gathered_is_refused(names: tuple[str, ...]) -> None:
    """One output is one output."""
    with pytest.raises(UnknownName, match="twice"):
        Chain(Texts(str)).infer(InferRequest((strings(["a"]),), output_names=names))


def test_what_each_stage_knows_of_a_row_is_gathered() -> None:
    """Each stage's line is kept, one below the other, and a row that failed has those of the stages that saw it."""
    first = Texts(partial(refuse, when="a"), about=lambda text: f"first {text}")
    last = Texts(partial(refuse, when="c"), about=lambda text: f"last {text}" if text != "d" else "")
    chain = Chain(first, Texts(str, about=lambda text: ""), last)
    names = (ABOUT, "text", ERRORS)
    about, texts, errors = chain.infer(InferRequest((strings(["a", "b", "c", "d"]),), output_names=names)).outputs
    assert about == strings(["first a", "first b\nlast b", "first c\nlast c", "first d"])
    assert texts == strings(["", "b", "", "d"])
    assert [error and error.message for error in decode_row_errors(errors)] == [
        "a is refused", None, "c is refused", None
    ]  # fmt: skip
    assert first.seen[0].output_names == ("", ABOUT, ERRORS)


def test_nobody_is_asked_what_it_knows_unless_the_caller_asks() -> None:
    """A stage that offers no such output can be part of any chain but one that is asked for it."""
    first, last = Texts(str), Texts(str)
    Chain(first, last).infer(InferRequest((strings(["a"]),), output_names=("", ERRORS)))
    assert (first.seen[0].output_names, last.seen[0].output_names) == (("", ERRORS), ("", ERRORS))
    with pytest.raises(UnknownName, match="about"):
        Chain(first, last).infer(InferRequest((strings(["a"]),), output_names=("", ERRORS, ABOUT)))


def test_configured_overrides_the_requests_config() -> None:
    """A hop's own config wins over the chain's."""
    own, other = Texts(str), Texts(str)
    Chain(Configured(own, "mine"), other).infer(InferRequest((strings(["a"]),), config="theirs"))
    assert (own.seen[0].config, other.seen[0].config) == ("mine", "theirs")
