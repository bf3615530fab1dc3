import pytest

from bn_experiments.judge.statements import EXAMPLES, Statement, parse
from bn_experiments.refusal import Refusal


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bn > none on test_acc", ("bn", "none", "test_acc", "difference", 0.0, None)),
        ("bn > none by 0.01 on test/acc", ("bn", "none", "test/acc", "difference", 0.01, None)),
        ("bn > none by -2e-2 on test/acc", ("bn", "none", "test/acc", "difference", -0.02, None)),
        ("bn < none by .5 on test_loss", ("none", "bn", "test_loss", "difference", 0.5, None)),
        ("bn = none within 0.01 on acc", ("bn", "none", "acc", "equivalence", 0.01, None)),
        ("bn > none", ("bn", "none", None, "difference", 0.0, None)),
        ("bn > none smallest 0.02", ("bn", "none", None, "difference", 0.0, 0.02)),
        ("bn > none by 1 on acc smallest 2", ("bn", "none", "acc", "difference", 1.0, 2.0)),
        ("  gn num_groups=4 >  ln  on  top-1 acc ", ("gn num_groups=4", "ln", "top-1 acc", "difference", 0.0, None)),
    ],
)
def test_a_claim_names_two_arms_a_metric_a_rule_and_its_numbers(text, expected):
    assert parse(text) == Statement(text, *expected)


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("bn better", "is no claim"),
        ("bn>none", "is no claim"),
        ("", "is no claim"),
        ("bn >= none on acc", "is no claim"),
        ("bn = none on acc", "has no margin after within"),
        ("bn = none by 0.1 on acc", "has no margin after within"),
        ("bn > none within 0.1 on acc", "has within beside > or <, not by"),
        ("bn = none within 0 on acc", "has a margin that is not above 0"),
        ("bn = none within 0.1 on acc smallest 0.1", "has a margin and smallest"),
        ("bn > none on acc smallest -1", "has a smallest effect that is not above 0"),
    ],
)
def test_what_is_no_claim_is_refused_with_examples(text, got):
    with pytest.raises(Refusal) as refused:
        parse(text)
    assert f": {got}; allowed: " in str(refused.value)
    assert all(f'"{example}"' in refused.value.allowed for example in EXAMPLES)


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_are_claims(example):
    assert parse(example).text == example
