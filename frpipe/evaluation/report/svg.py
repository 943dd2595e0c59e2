"""An SVG document made part of a page: no id twice, the page's colours, no rules of its own."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from frpipe.evaluation.plots.style import ROLES, SERIES

_DROPPED = ("metadata", "style")
_REFERENCE = re.compile(r"#([\w.-]+)")
_VARIABLES = {
    **{light: f"var(--{role})" for role, (light, _) in ROLES.items()},
    **{light: f"var(--s{place})" for place, (light, _) in enumerate(SERIES, 1)},
}


def inline(svg: str, name: str, label: str) -> str:
    """HTML. name: unique on the page, begins every id.  label: for who cannot see it."""
    root = ElementTree.fromstring(svg)
    for parent in list(root.iter()):
        for child in [child for child in parent if _local(child.tag) in _DROPPED]:
            parent.remove(child)
    used = {
        found for each in root.iter() for value in each.attrib.values() for found in _REFERENCE.findall(value)
    }
    for element in root.iter():
        _adapt(element, name, used)
    box = root.attrib["viewBox"]
    root.attrib.clear()
    root.attrib.update({"viewBox": box, "role": "img", "aria-label": label})
    return ElementTree.tostring(root, encoding="unicode")


def _adapt(element: ElementTree.Element, name: str, used: set[str]) -> None:
    element.tag = _local(element.tag)
    element.tail = None if element.tail is None or not element.tail.strip() else element.tail
    element.text = None if element.text is None or not element.text.strip() else element.text
    attributes = {_local(key): value for key, value in element.attrib.items()}
    element.attrib.clear()
    if attributes.get("id") not in used:
        attributes.pop("id", None)
    # Variables are for rules of style: plain attributes of colour become such.
    if "fill" in attributes:
        attributes["style"] = f"fill: {attributes.pop('fill')}; {attributes.get('style', '')}"
    for key, value in attributes.items():
        element.attrib[key] = _value(key, value, name)


def _value(key: str, value: str, name: str) -> str:
    if key == "id":
        return f"{name}-{value}"
    if key == "href":
        return value.replace("#", f"#{name}-")
    value = value.replace("url(#", f"url(#{name}-")
    if key == "style":
        value = re.sub(r"font:[^;]*?([\d.]+px)[^;]*", r"font-size: \1", value)
        return re.sub(r"#[0-9a-f]{6}\b", lambda found: _VARIABLES.get(found[0], found[0]), value)
    return value


def _local(name: str) -> str:
    return name.rsplit("}", 1)[-1]
