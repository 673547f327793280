"""The examples in the help and the manual."""

import shlex

import pytest
from command_tree import command_tree

from drawwell.cli.examples import EXAMPLES
from drawwell.cli.parser import build_parser

NODES = [each for each in command_tree(build_parser()).walk() if each.path]
VERBS = [" ".join(each.path) for each in command_tree(build_parser()).walk() if not each.children]
LINES = [line for examples in EXAMPLES.values() for line, _what in examples]


@pytest.mark.parametrize("node", NODES, ids=lambda node: " ".join(node.path))
def test_the_help_of_a_command_describes_it(node):
    """Every noun's and verb's help has a description."""
    assert node.description


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_two_examples(verb):
    """Every verb has at least two examples."""
    assert len(EXAMPLES[verb]) >= 2


@pytest.mark.parametrize("line", LINES)
def test_an_example_can_be_typed(line):
    """The command line accepts every example."""
    tokens = shlex.split(line.replace("$(", "").replace(")", ""), comments=False)
    for start in (at for at, word in enumerate(tokens) if word in {"drawwell", "eval"}):
        typed = shlex.split(tokens[start + 1]) if tokens[start] == "eval" else tokens[start:]
        end = next((at for at, word in enumerate(typed) if word in {"|", ">", "<"}), len(typed))
        assert build_parser().parse_args(typed[1:end]).noun
