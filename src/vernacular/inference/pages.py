"""The pages of the cache: who holds which, and what is kept for later prompts. No tensors here.

A page holds the keys and values of `PAGE_TOKENS` consecutive tokens of a sequence. A full page is known by the digest
of its tokens and all before them, so that a prompt that begins like an earlier one finds its pages and does not
compute them again. A page that nobody holds stays findable until its place is needed; the one unused longest goes
first. Only full pages are shared, and nobody writes to a full page, so no page is ever copied.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Sequence

from vernacular.kernels.page import PAGE_SIZE

PAGE_TOKENS = PAGE_SIZE


def page_digest(before: bytes, tokens: Sequence[int]) -> bytes:
    """What a full page holds, given the digest of the page before it (`b""` for the first)."""
    return hashlib.blake2b(array("q", tokens).tobytes(), digest_size=16, key=before).digest()


def pages_for(num_tokens: int) -> int:
    """Pages that so many tokens take."""
    return -(-num_tokens // PAGE_TOKENS)


class Pages:
    """`total` pages, numbered from 0, each held by any number of sequences."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._untouched = 0  # pages from here on were never taken
        self._free: list[int] = []
        self._kept: OrderedDict[int, bytes] = OrderedDict()  # held by nobody, findable, oldest first
        self._holders: dict[int, int] = {}
        self._digest_of: dict[int, bytes] = {}
        self._page_of: dict[bytes, int] = {}

    @property
    def num_free(self) -> int:
        """Pages that can be taken, those kept for later prompts among them."""
        return self.total - len(self._holders)

    def take(self) -> int:
        """A page that nobody holds; its holder is the caller. Raises IndexError where there is none."""
        if self._free:
            page = self._free.pop()
        elif self._untouched < self.total:
            page = self._untouched
            self._untouched += 1
        elif self._kept:
            page, digest = self._kept.popitem(last=False)
            del self._page_of[digest], self._digest_of[page]
        else:
            raise IndexError(f"all {self.total} pages are held")
        self._holders[page] = 1
        return page

    def find(self, digest: bytes) -> int | None:
        """The page with this content, if it is still there."""
        return self._page_of.get(digest)

    def hold(self, page: int) -> None:
        """One holder more, of a page that was found."""
        self._kept.pop(page, None)
        self._holders[page] = self._holders.get(page, 0) + 1

    def give_back(self, page: int) -> None:
        """One holder less. Raises KeyError where nobody holds the page."""
        self._holders[page] -= 1
        if self._holders[page]:
            return
        del self._holders[page]
        if page in self._digest_of:
            self._kept[page] = self._digest_of[page]
        else:
            self._free.append(page)

    def announce(self, page: int, digest: bytes) -> None:
        """Make a full page findable, unless another one with this content is."""
        if page not in self._digest_of and digest not in self._page_of:
            self._digest_of[page] = digest
            self._page_of[digest] = page

    def forget(self) -> None:
        """Make no page findable any more."""
        self._free.extend(self._kept)
        self._kept.clear()
        self._digest_of.clear()
        self._page_of.clear()
