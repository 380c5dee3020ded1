"""Noise: what machines leave among the words."""

from __future__ import annotations

from random import Random

from vernacular.corpus.quality.damage.kind import alphabet, inserted, kind, words

_BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_HEX = "0123456789abcdef"
_TAGS = ("div", "span", "td", "li", "a", "br", "p", "img", "script", "ul")


@kind("noise")
def keyboard_noise(text: str, language: str, share: float, random: Random) -> str:
    """Letters of the script in any order and number, where words were."""
    letters = alphabet(text)
    return words(
        text, share, random, lambda word: "".join(random.choices(letters, k=max(2, len(word) + random.randint(-2, 4))))
    )


@kind("noise")
def encoded_data(text: str, language: str, share: float, random: Random) -> str:
    """Base64 and hexadecimal figures."""
    alphabet = random.choice((_BASE64, _HEX))
    return inserted(text, share, random, lambda: "".join(random.choices(alphabet, k=random.randint(30, 120))))


@kind("noise")
def markup_left_over(text: str, language: str, share: float, random: Random) -> str:
    """Tags, attributes and entities around the words."""

    def wrap(word: str) -> str:
        tag = random.choice(_TAGS)
        number = random.randint(1, 999)
        way = random.randrange(4)
        if way == 0:
            return f'<{tag} class="c{number}">{word}</{tag}>'
        return f"{word}&nbsp;" if way == 1 else f"{word}</{tag}>" if way == 2 else f"<{tag}>{word}"

    return words(text, 0.7 * share, random, wrap)


@kind("noise")
def program_code(text: str, language: str, share: float, random: Random) -> str:
    """Scripts, style sheets and data that a page's text was taken with."""
    names = [
        "var",
        "margin",
        "function",
        "data",
        "width",
        "item_id",
        "padding",
        "return",
        "getElementById",
        "px",
        "url",
    ]

    def line() -> str:
        name, other = random.sample(names, 2)
        number = random.randint(0, 9999)
        return random.choice(
            (
                f"{name}({other}, {number});",
                f".{name}{{{other}:{number}px}}",
                f'{{"{name}":"{other}","id":{number}}}',
                f"var {name}={other};",
            )
        )

    return inserted(text, share, random, line)


@kind("noise")
def figures(text: str, language: str, share: float, random: Random) -> str:
    """Lists of figures, dates and prices."""

    def row() -> str:
        return " ".join(
            random.choice(("{}", "{}.{}", "{}-{}-{}", "{}:{}", "{},{}%")).format(*random.choices(range(1, 2100), k=3))
            for _ in range(random.randint(4, 14))
        )

    return inserted(text, share, random, row)


@kind("noise")
def machine_log(text: str, language: str, share: float, random: Random) -> str:
    """Time stamps, paths and messages of a program."""

    def entry() -> str:
        day = f"2021-{random.randint(1, 12):02}-{random.randint(1, 28):02}"
        clock = f"{day} {random.randint(0, 23):02}:{random.randint(0, 59):02}"
        level = random.choice(("INFO", "WARN", "ERROR", "DEBUG"))
        return f"[{clock}] {level} /var/app/{random.choice(_TAGS)}_{random.randint(1, 99)}.php:{random.randint(1, 900)}"

    return inserted(text, share, random, entry)


@kind("noise")
def links(text: str, language: str, share: float, random: Random) -> str:
    """Addresses where sentences were."""

    def address() -> str:
        path = "/".join(
            "".join(random.choices(_HEX + "ghikmnoprst-", k=random.randint(4, 9))) for _ in range(random.randint(1, 4))
        )
        return f"https://{random.choice(('www.', ''))}{random.choice(('shop', 'news', 'img'))}.example/{path}"

    return inserted(text, share, random, lambda: " ".join(address() for _ in range(random.randint(1, 3))))
