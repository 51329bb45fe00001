"""What a recipe may say shortly, written out: `itc: {}` for `itc: {name: itc}`, `demo/flags: 0.5` for its weight."""

from __future__ import annotations

from mmret.recipe.yaml_marks import Node


def write_out(root: Node) -> None:
    """Replace shorthand by the long form, in place; what is of another form stays, to be refused by type."""
    evaluation = root.value.get("evaluation")
    rerank = _entry(evaluation, "rerank")
    if evaluation is not None and rerank is not None and not isinstance(rerank.value, (dict, list, type(None))):
        evaluation.value["rerank"] = Node({"k": rerank}, rerank.origin)
    stages = root.value.get("stages")
    if stages is None or not isinstance(stages.value, list):
        return
    for stage in stages.value:
        for mixture in (_entry(stage, "data"), _entry(stage, "validation")):
            for key, node in _entries(_entry(mixture, "sources")).items():
                if not isinstance(node.value, (dict, list)) and node.value is not None:
                    _entry(mixture, "sources").value[key] = Node({"weight": node}, node.origin)  # pyright: ignore[reportOptionalMemberAccess]
        for key, node in _entries(_entry(stage, "objectives")).items():
            if node.value is None:
                node.value = {}
            if isinstance(node.value, dict):
                node.value.setdefault("name", Node(key, node.origin))


def _entry(node: Node | None, key: str) -> Node | None:
    return node.value.get(key) if node is not None and isinstance(node.value, dict) else None


def _entries(node: Node | None) -> dict[str, Node]:
    return dict(node.value) if node is not None and isinstance(node.value, dict) else {}
