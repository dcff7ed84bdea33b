#!/usr/bin/env python3
"""Checks that no run depends on the order in which C++ evaluates draws.

usage: check_draws.py [FILE.cc ...]

Looks at the given files, or at the scenarios of this workspace. The rules are
those of docs/scenarios.md:

1. A name is drawn at one place: twice in a function (a class, for a member) is
   an error. A run that gets there ends with a message, too.
2. A function that draws takes a `Draws` by value, which its caller makes with
   `Part`, or a `DrawName` for its one draw.
3. Of the functions that draw from a member or a captured variable under names
   of their own, an expression calls one once.
4. Random numbers come from `Draws` only: those of the standard library and of
   Abseil, and what they shuffle and hash, differ between libraries.

It reads C++ without understanding it. A comment `NOLINT(draws)` in the line
keeps it quiet where it is wrong. Prints each violation with its place. Exits 1
if there is any, and 2 if a file cannot be read.
"""

import pathlib
import re
import sys

TOKEN = re.compile(
    r'(?P<skip>\s+|//[^\n]*|/\*.*?\*/|^[ \t]*#(?:[^\n\\]|\\.)*)'
    r'|(?P<string>(?:u8|[uUL])?R"(?P<mark>[^(]*)\(.*?\)(?P=mark)"'
    r'|"(?:[^"\\\n]|\\.)*"|\'(?:[^\'\\\n]|\\.)+\')'
    r"|(?P<word>[A-Za-z_]\w*|\d(?:[\w.]|'\d)*)"
    r'|(?P<mark2>::|->|&&|\|\||.)', re.S | re.M)
DRAWS = {"Bits", "Below", "Between", "OneIn", "Part"}
FOREIGN = re.compile(
    r"^(random_device|mt19937(_64)?|minstd_rand0?|default_random_engine"
    r"|(uniform|bernoulli|binomial|geometric|poisson|exponential|gamma|normal"
    r"|discrete)_\w*distribution|random_shuffle|shuffle|sample|hash"
    r"|BitGen|InsecureBitGen)$")
KEYWORDS = {"if", "for", "while", "switch", "return", "sizeof", "catch"}


class Token:
    def __init__(self, text, line):
        self.text, self.line = text, line


def tokens_of(source):
    tokens, line = [], 1
    for match in TOKEN.finditer(source):
        if match.lastgroup != "skip" and match["skip"] is None:
            tokens.append(Token(match[0], line))
        line += match[0].count("\n")
    return tokens


def closing(tokens, start):
    """The index of the bracket that closes the one at `start`."""
    depth = 0
    for i in range(start, len(tokens)):
        if tokens[i].text in "([{":
            depth += 1
        elif tokens[i].text in ")]}":
            depth -= 1
            if depth == 0:
                return i
    return len(tokens) - 1


class Block:
    """What stands in braces: its expressions, and the blocks in it."""

    def __init__(self, head, parent):
        self.head, self.parent = head, parent  # head: the tokens before "{"
        self.expressions, self.blocks = [], []

    def is_scope(self):
        """A class, a namespace or the file, but no function."""
        texts = [token.text for token in self.head]
        return self.parent is None or (
            "(" not in texts and
            any(word in texts for word in ("class", "struct", "namespace")))

    def is_lambda(self):
        return any(token.text == "[" for token in self.head)

    def name(self):
        """Of a function, or of the variable that a lambda is given to."""
        texts = [token.text for token in self.head]
        if self.is_lambda():
            place = texts.index("[")
            return texts[place - 2] if texts[place - 1:place] == ["="] else ""
        if "(" not in texts:
            return ""
        name = texts[max(0, texts.index("(") - 1)]
        return "" if name in KEYWORDS else name

    def outermost(self):
        """The function that the block lies in."""
        block = self
        while block.parent is not None and not block.parent.is_scope():
            block = block.parent
        return block

    def owner(self):
        """The function or named lambda that the block lies in, or the scope."""
        block = self
        while not block.is_scope() and not block.name():
            block = block.parent
        return block

    def scope(self):
        block = self
        while not block.is_scope():
            block = block.parent
        return block

    def all(self):
        yield self
        for block in self.blocks:
            yield from block.all()


def is_block(head):
    """Whether the brace after `head` begins a block, and no list of values."""
    texts = [token.text for token in head]
    if not texts or texts[-1] in (")", "]", "else", "do", "try", "const",
                                  "override", "noexcept", "mutable", ":"):
        return True
    if texts[0] in ("class", "struct", "namespace", "enum", "extern", "union"):
        return True
    after = texts[len(texts) - texts[::-1].index(")"):] if ")" in texts else []
    return after[:1] == ["->"]


def parse(tokens, block):
    expression = []

    def end():
        if expression:
            block.expressions.append(list(expression))
            expression.clear()

    i = 0
    while i < len(tokens):
        text = tokens[i].text
        if text == ";":
            end()
        elif text == "{":
            close = closing(tokens, i)
            if is_block(expression):
                # Of a lambda in an expression, the rest goes on after it.
                inner = Block(list(expression), block)
                block.blocks.append(inner)
                parse(tokens[i + 1:close], inner)
                depth = sum(t.text in "([" for t in expression) - sum(
                    t.text in ")]" for t in expression)
                if depth == 0 and not inner.is_lambda():
                    end()
                i = close
            else:
                expression.append(tokens[i])
                tokens = tokens[:close] + [Token("]}", tokens[close].line)
                                           ] + tokens[close + 1:]
        else:
            expression.append(tokens[i])
        i += 1
    end()


def draws_in(expression):
    """(receiver, name or None, line) of each draw."""
    for i in range(1, len(expression) - 2):
        if (expression[i].text in DRAWS and expression[i - 1].text in
                (".", "->") and expression[i + 1].text == "(" and i >= 2):
            argument = expression[i + 2].text
            name = argument if argument.startswith('"') else None
            yield expression[i - 2].text, name, expression[i].line
        # DrawDuration(random, "name", ...), and the like.
        elif (expression[i].text == "," and i >= 1 and
              expression[i + 1].text.startswith('"') and
              expression[i - 2].text in ("(", ",") and
              expression[i - 1].text in DRAWS_VARIABLES):
            yield (expression[i - 1].text, expression[i + 1].text,
                   expression[i + 1].line)


def variables_of(tokens):
    """The names of the variables whose type is Draws."""
    found = set()
    for i, token in enumerate(tokens[:-2]):
        if token.text != "Draws":
            continue
        following = tokens[i + 1].text
        if following in ("&", "&&"):
            following = tokens[i + 2].text
        if re.match(r"[a-z]\w*$", following):
            found.add(following)
    return found


DRAWS_VARIABLES = set()


class File:
    def __init__(self, path):
        self.path = path
        source = path.read_text()
        self.lines = source.split("\n")
        self.tokens = tokens_of(source)
        self.top = Block([], None)
        DRAWS_VARIABLES.clear()
        DRAWS_VARIABLES.update(variables_of(self.tokens))
        parse(self.tokens, self.top)
        self.problems = []

    def report(self, line, text):
        if "NOLINT(draws)" not in self.lines[line - 1]:
            self.problems.append((line, text))

    def check_names(self):
        places = {}
        for block in self.top.all():
            for expression in block.expressions:
                for receiver, name, line in draws_in(expression):
                    if name is None or receiver not in DRAWS_VARIABLES:
                        continue
                    where = block.scope() if receiver.endswith(
                        "_") else block.outermost()
                    key = (id(where), receiver, name)
                    if key in places:
                        self.report(line, f"{name} is drawn a second time; the "
                                    f"first is in line {places[key]}. Give "
                                    "each place a name of its own")
                    places.setdefault(key, line)

    def check_parameters(self):
        for i, token in enumerate(self.tokens[:-2]):
            if (token.text != "Draws" or self.tokens[i + 1].text not in
                    ("&", "*") or self.tokens[i - 1].text == "const"):
                continue
            start = i
            depth = 0
            while start > 0 and depth < 1:
                start -= 1
                depth += (self.tokens[start].text == "(") - (
                    self.tokens[start].text == ")")
            end = closing(self.tokens, start)
            parameters = {token.text for token in self.tokens[start:end]}
            if "DrawName" not in parameters:
                self.report(token.line, "a function that draws takes a Draws "
                            "by value, made by its caller with Part, or a "
                            "DrawName")

    def drawing_functions(self):
        """For each function: what it draws from what outlives it."""
        named = [(block, block.owner()) for block in self.top.all()
                 if block.owner().name()]
        functions = {}
        for block, owner in named:
            for expression in block.expressions:
                for receiver, drawn, _ in draws_in(expression):
                    outlives = receiver.endswith("_") or owner.is_lambda()
                    own = any(token.text == receiver for token in owner.head)
                    if drawn is not None and outlives and not own:
                        functions.setdefault(owner.name(),
                                             set()).add((receiver, drawn))
        changed = True
        while changed:
            changed = False
            for block, owner in named:
                for expression in block.expressions:
                    for called, _ in calls_in(expression):
                        more = functions.get(called, set())
                        if not more <= functions.get(owner.name(), set()):
                            functions.setdefault(owner.name(),
                                                 set()).update(more)
                            changed = True
        return functions

    def check_calls(self):
        functions = self.drawing_functions()
        for block in self.top.all():
            for expression in block.expressions:
                seen = {}
                for receiver, name, _ in draws_in(expression):
                    if name is not None:
                        seen[(receiver, name)] = "this expression"
                for called, line in calls_in(expression):
                    for drawn in functions.get(called, ()):
                        if drawn in seen:
                            self.report(line, f"{called} draws {drawn[1]}, and "
                                        f"so does {seen[drawn]}, in one "
                                        "expression: their order is open. Make "
                                        "two statements of it, or hand a "
                                        "DrawName through")
                            break
                        seen[drawn] = called
        self.problems = sorted(set(self.problems))

    def check_foreign(self):
        for i, token in enumerate(self.tokens):
            if FOREIGN.match(token.text) and i >= 2 and self.tokens[
                    i - 1].text == "::" and self.tokens[i - 2].text in (
                        "std", "absl", "ranges"):
                self.report(token.line, f"{token.text}: it differs between "
                            "libraries or runs. Draw from a Draws")
            elif (token.text in ("rand", "srand", "random", "drand48") and
                  self.tokens[i + 1:i + 2] and
                  self.tokens[i + 1].text == "(" and
                  self.tokens[i - 1].text not in (".", "->") and
                  (self.tokens[i - 1].text == "return" or
                   not re.match(r"\w", self.tokens[i - 1].text))):
                self.report(token.line, f"{token.text}() is not of the run's "
                            "seed. Draw from a Draws")


def calls_in(expression):
    for i in range(len(expression) - 1):
        if (re.match(r"[A-Za-z_]\w*$", expression[i].text) and
                expression[i + 1].text == "(" and
                (i == 0 or expression[i - 1].text not in (".", "->") or
                 expression[i - 2].text == "this")):
            yield expression[i].text, expression[i].line


def main():
    paths = [pathlib.Path(argument) for argument in sys.argv[1:]]
    if not paths:
        root = pathlib.Path(__file__).resolve().parent.parent
        paths = sorted(path for folder in ("scenarios", "outside", "planted",
                                     "stock")
                       for path in (root / "tests" / folder).iterdir()
                       if path.suffix in (".cc", ".h"))
    failed = False
    for path in paths:
        try:
            file = File(path)
        except (OSError, UnicodeDecodeError) as error:
            print(f"{path}: {error}", file=sys.stderr)
            return 2
        file.check_names()
        file.check_parameters()
        file.check_foreign()
        file.check_calls()
        for line, text in file.problems:
            print(f"{path}:{line}: {text}")
            failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
