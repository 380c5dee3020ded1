"""What a template finds round it is what transformers gives it, and leads nowhere outside."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from vernacular.foundation.errors import UserError
from vernacular.tokens.template import ChatTemplate

chat_template_utils = pytest.importorskip("transformers.utils.chat_template_utils")

CHAT = [{"role": "user", "content": "<źdźbło> & \"नदी\" 'ł'"}, {"role": "assistant", "content": "tak"}]
TOOLS: list[dict[str, Any]] = [{"name": "zegar", "parameters": {"ł": [1, 2.5, None, True]}}]
SOURCES = {
    "json": "{{ messages | tojson }}{{ tools | tojson(indent=4) }}{{ {'b': 1, 'a': 'ł'} | tojson(sort_keys=True) }}",
    "escaped json": "{{ messages[0].content | tojson(ensure_ascii=True, separators=(',', ':')) }}{{ tools | length }}",
    "loop controls": "{{ tools[0].name }}{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}"
    "{{ m.content }}{% break %}{% endfor %}",
    "namespace": "{% set n = namespace(a=1, self=2) %}{% set n.a = n.a + 1 %}{{ n.a }}{{ n.self }}{{ tools[0].name }}",
    "dict": "{{ dict(a=1) }}{{ dict.fromkeys(['x'], 2) }}{{ tools[0].name }}",
    "blocks": "{% if tools %}\n    {% for m in messages %}\n    {{ m.role }}\n    {% endfor %}\n{% endif %}\n",
    "generation": "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}"
    "{{ tools[0].name }}",
    "undefined": "{{ bos_token }}{{ nobody is defined }}{{ documents is none }}{{ messages[0].nobody }}"
    "{{ tools[0].name }}",
    "year": "{{ strftime_now('%Y') }}{{ tools[0].name }}",
}


@pytest.mark.parametrize("name", SOURCES)
def test_transformers_writes_the_same(name: str) -> None:
    rendered: Any = chat_template_utils.render_jinja_template([CHAT], tools=TOOLS, chat_template=SOURCES[name])
    assert ChatTemplate(SOURCES[name]).render(CHAT, tools=TOOLS) == rendered[0][0]


def test_the_date_is_the_local_one() -> None:
    before = datetime.datetime.now().astimezone().strftime("%d %B %Y")
    written = ChatTemplate("{{ strftime_now('%d %B %Y') }}").render(CHAT)
    assert written in (before, datetime.datetime.now().astimezone().strftime("%d %B %Y"))


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ dict.__class__ }}{{ dict.__init__.__globals__ }}",
        "{{ namespace.__init__.__globals__ }}",
        "{% set n = namespace(__class__=1) %}",
        "{% set n = namespace() %}{% set n._x = 1 %}",
        "{{ raise_exception.__globals__.json }}",
        "{{ strftime_now.__globals__.json }}",
        "{% include 'etc/passwd' %}",
        "{{ raise_exception('nie') }}",
        "{{ 1 / 0 }}",
        "{{ nobody.content }}",
    ],
)
def test_what_leads_outside_or_fails_is_refused(source: str) -> None:
    with pytest.raises(UserError, match="refuses the conversation"):
        ChatTemplate(source, name="a.jinja").render(CHAT)
