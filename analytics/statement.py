"""ClickHouse statements, taken apart as far as the HTTP interface must know them, and errors in its terms."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

READING = frozenset(
    {"SELECT", "WITH", "SHOW", "DESC", "DESCRIBE", "EXPLAIN", "EXISTS", "CHECK", "FROM", "VALUES"}
)
"""First words of statements that answer with rows and change nothing."""

BAD_REQUEST = {6, 25, 26, 27, 33, 36, 38, 41, 42, 53, 62, 72, 117, 456, 457}
NOT_FOUND = {46, 47, 50, 56, 60, 63, 73, 78, 81, 115, 336}
OTHER_STATUS = {48: 501, 128: 413, 159: 408, 164: 500, 241: 500, 307: 413, 516: 403}
"""Exception codes by the HTTP status that ClickHouse answers them with; the rest is 500."""


class EngineError(Exception):
    """A refusal in ClickHouse's terms: its numeric code, and its text."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @classmethod
    def of(cls, error: Exception) -> EngineError:
        """Read the code and the text out of an exception of chdb."""
        text = str(error)
        found = re.search(r"Code: (\d+)\.", text)
        if not found:
            return cls(1001, f"Code: 1001. DB::Exception: {text} (STD_EXCEPTION)")
        return cls(int(found[1]), text[found.start() :].strip())

    @classmethod
    def made(cls, code: int, name: str, text: str) -> EngineError:
        """Make one that reads like ClickHouse's own."""
        return cls(code, f"Code: {code}. DB::Exception: {text} ({name})")

    @property
    def status(self) -> int:
        """The HTTP status ClickHouse answers with."""
        if self.code in BAD_REQUEST:
            return 400
        return 404 if self.code in NOT_FOUND else OTHER_STATUS.get(self.code, 500)


@dataclass(frozen=True)
class Statement:
    """One statement: its text (of an INSERT with data, without FORMAT and the data), and what is in it."""

    text: str
    keyword: str
    """Its first word, in capitals."""
    format: str | None = None
    """The format it names itself."""
    data: bytes | None = None
    """What an INSERT with FORMAT or VALUES inserts."""
    stateful: bool = False
    """Whether it leaves state in the handle that runs it."""

    @property
    def reads(self) -> bool:
        """Whether it answers with rows and changes nothing."""
        return self.keyword in READING


WORDS = re.compile(
    rb"""
    (?P<skip> \s+ | --[^\n]* | \#[!\ ][^\n]* | /\*.*?(?:\*/|\Z)
            | '(?:[^'\\]|\\.|'')*' | "(?:[^"\\]|\\.|"")*" | `(?:[^`\\]|\\.|``)*`
            | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$ )
  | (?P<word> [A-Za-z_][A-Za-z0-9_]* )
  | (?P<open> [(\[{] )
  | (?P<close> [)\]}] )
  | .
    """,
    re.VERBOSE | re.DOTALL,
)


def words(query: bytes) -> Iterator[tuple[str, int, int]]:
    """Yield the words of a query outside comments, quotes and brackets: (in capitals, start, end)."""
    depth = 0
    for found in WORDS.finditer(query):
        if found.lastgroup == "open":
            depth += 1
        elif found.lastgroup == "close":
            depth -= 1
        elif found.lastgroup == "word" and depth <= 0:
            yield found[0].decode("ascii").upper(), found.start(), found.end()


def parse(query: bytes) -> Statement:
    """Take one statement apart. Of an INSERT, what follows `FORMAT name` or `VALUES` is data, not text."""
    if query.lstrip()[:1] == b"(":
        return Statement(_text(query), "SELECT", _named_format(query, list(words(query))))
    scanner = words(query)
    keyword = next(scanner, ("", 0, 0))[0]
    if keyword == "INSERT":
        return _insert(query, scanner)
    rest = list(scanner)
    temporary = keyword == "CREATE" and "TEMPORARY" in {word for word, _, _ in rest[:3]}
    stateful = temporary or keyword in ("SET", "USE")
    return Statement(_text(query), keyword, _named_format(query, rest), stateful=stateful)


def _insert(query: bytes, scanner: Iterator[tuple[str, int, int]]) -> Statement:
    """An INSERT, from its second word on. The scan stops where data begins."""
    for word, start, end in scanner:
        if word in ("SELECT", "WITH", "WATCH", "INFILE"):
            break
        if word == "VALUES":
            return Statement(_text(query[:start]), "INSERT", "Values", query[end:].strip().rstrip(b";"))
        if word == "FORMAT":
            name, begin, after = next(scanner, ("", end, end))
            if name == "VALUES":
                return Statement(_text(query[:start]), "INSERT", "Values", query[after:].strip().rstrip(b";"))
            # One line break, or the blanks on this line, stand between the format's name and the data.
            gap = re.match(rb"[ \t]*(?:\r?\n)?", query[after:])
            data = query[after + (gap.end() if gap else 0) :]
            return Statement(_text(query[:start]), "INSERT", query[begin:after].decode("ascii"), data)
    return Statement(_text(query), "INSERT")


def _named_format(query: bytes, found: list[tuple[str, int, int]]) -> str | None:
    """The format of a closing `FORMAT name`, which only SETTINGS may follow."""
    for at in range(len(found) - 2, -1, -1):
        if found[at][0] == "FORMAT" and (at + 2 == len(found) or found[at + 2][0] == "SETTINGS"):
            return query[found[at + 1][1] : found[at + 1][2]].decode("ascii")
    return None


def _text(query: bytes) -> str:
    try:
        return query.strip().rstrip(b";").decode("utf-8")
    except UnicodeDecodeError as error:
        raise EngineError.made(62, "SYNTAX_ERROR", f"the query is not UTF-8: {error}") from error
