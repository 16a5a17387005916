"""What can be made of a selector's tree: canonical text, a fast matcher, its labels, a rewritten tree (S-20..S-23, V-8).

Recursion is bounded by `selector_syntax.MAX_DEPTH`. Pure; any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hostward.model.selector_syntax import Compare, Everything, Group, Has, Member, Node, Not

Matcher = Callable[[Mapping[str, str]], bool]


def quote(value: str) -> str:
    """A literal as text: in double quotes unless it holds one (S-23). Raises ValueError for one that holds both kinds."""
    if '"' not in value:
        return f'"{value}"'
    if "'" in value:
        raise ValueError("a selector can't express a text that holds both kinds of quotes")
    return f"'{value}'"


def text_of(node: Node) -> str:
    """The canonical text (S-23): parsing it gives the same tree."""
    match node:
        case Everything(word):
            return word
        case Has(label):
            return f"has({label})"
        case Compare(label, word, value):
            return f"{label} {word} {quote(value)}"
        case Member(label, word, values):
            return f"{label} {word} {{{', '.join(map(quote, values))}}}"
        case Not(operand):
            return f"!{text_of(operand)}"
        case Group(word, operands):
            return f"({f' {word} '.join(map(text_of, operands))})"


def labels_of(node: Node) -> frozenset[str]:
    """Every label whose presence or value can matter."""
    match node:
        case Everything():
            return frozenset()
        case Has(label) | Compare(label) | Member(label):
            return frozenset((label,))
        case Not(operand):
            return labels_of(operand)
        case Group(_, operands):
            return frozenset().union(*map(labels_of, operands))


def matcher_of(node: Node) -> Matcher:
    """A function from labels to whether they match (S-20, S-21), as nested closures: no tree is walked per evaluation."""
    match node:
        case Everything():
            return _always
        case Has(label):
            return lambda labels: label in labels
        case Compare():
            return _compare(node.label, node.word, node.value)
        case Member(label, word, values):
            members = frozenset(values)  # a missing label is None, which no set of texts holds
            if word == "in":
                return lambda labels: labels.get(label) in members
            return lambda labels: labels.get(label) not in members
        case Not(operand):
            inner = matcher_of(operand)
            return lambda labels: not inner(labels)
        case Group(word, operands):
            return _group(word == "||", tuple(map(matcher_of, operands)))


def _always(_labels: Mapping[str, str]) -> bool:
    return True


def _compare(label: str, word: str, value: str) -> Matcher:
    match word:
        case "==":
            return lambda labels: labels.get(label) == value
        case "!=":
            return lambda labels: labels.get(label) != value
        case "contains":
            return lambda labels: label in labels and value in labels[label]
        case "starts with":
            return lambda labels: label in labels and labels[label].startswith(value)
        case _:
            return lambda labels: label in labels and labels[label].endswith(value)


def _group(decisive: bool, parts: tuple[Matcher, ...]) -> Matcher:
    """ "||" is decided by the first true operand, "&&" by the first false one."""

    def matches(labels: Mapping[str, str]) -> bool:
        for part in parts:  # a loop, because any() would add a frame per level of nesting
            if part(labels) is decisive:
                return decisive
        return not decisive

    return matches


def rewrite(node: Node, *, prefix: str = "", replace: Mapping[str, Node] | None = None) -> Node:
    """The same tree with `prefix` before every label (V-8), and `all()` or `global()` replaced by other nodes.

    Felix replaces in the text; on the tree a literal that happens to hold "all()" is left alone. A replacement isn't prefixed.
    """
    match node:
        case Everything(word):
            return (replace or {}).get(word, node)
        case Has(label):
            return Has(prefix + label)
        case Compare(label, word, value):
            return Compare(prefix + label, word, value)
        case Member(label, word, values):
            return Member(prefix + label, word, values)
        case Not(operand):
            return Not(rewrite(operand, prefix=prefix, replace=replace))
        case Group(word, operands):
            return Group(word, tuple(rewrite(operand, prefix=prefix, replace=replace) for operand in operands))


def mentions_global(node: Node) -> bool:
    """Whether `global()` occurs anywhere (M-16)."""
    match node:
        case Everything(word):
            return word == "global()"
        case Not(operand):
            return mentions_global(operand)
        case Group(_, operands):
            return any(map(mentions_global, operands))
        case _:
            return False
