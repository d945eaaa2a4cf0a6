#!/usr/bin/env python3
"""Checks how the house is built: what the compiler lets pass and a reader should not have to.

    .ci/house.py [FOLDER]       checks the workspace (this one, without a folder)
    .ci/house.py --arrows CRATE says which module of a crate uses which, and where for the first time
    .ci/house.py --self-test    checks the checks, on a crate that is planted for it

For the sources of each crate under crates/ (test modules, comments and strings aside):
- no circle among modules. An arrow leads from a module to the module that defines what it uses; re-exports, of the crate root or of any
  module, are followed to where they come from. Between a module and its own submodules there is no arrow: they are one thing.
- what a module uses of its own crate it takes from the module that defines it, and not from a re-export of the crate root.
- links to rules lead to a heading of docs/design.md.
- no function above 60 lines, no file above 600, no file without a module doc (`//!`), no mod.rs.
"""
import collections, pathlib, re, sys, tempfile

FUNCTION, FILE = 60, 600
# Functions that may be longer, as "crate/file.rs: name", with the reason.
LONG_FUNCTIONS = {}

TOKEN = re.compile(r"""
    (?P<skip>\s+|//[^\n]*)
  | (?P<block>/\*)
  | (?P<raw>b?c?r(?P<hashes>\#*)".*?"(?P=hashes))
  | (?P<text>[bc]?"(?:\\.|[^"\\])*")
  | (?P<char>b?'(?:\\(?:u\{[^}]*\}|x..|.)|[^\\'\n])')
  | (?P<lifetime>'\w+)
  | (?P<word>(?:r\#)?\w+)
  | (?P<sign>::|.)
""", re.X | re.S)


def tokens(source):
    """The words and signs of a source with their lines; no comments, strings or lifetimes."""
    out, at, line = [], 0, 1
    while at < len(source):
        match = TOKEN.match(source, at)
        end = match.end()
        if match["block"]:
            depth = 1
            while depth and end < len(source):
                pair = source[end:end + 2]
                depth += (pair == "/*") - (pair == "*/")
                end += 2 if pair in ("/*", "*/") else 1
        elif match["word"] or match["sign"]:
            out.append((match.group(), line))
        line += source.count("\n", at, end)
        at = end
    return out


def closing(found, at):
    """Where the bracket that opens at `at` closes."""
    depth = 0
    for n in range(at, len(found)):
        depth += (found[n][0] in "([{") - (found[n][0] in ")]}")
        if depth == 0:
            return n
    return len(found) - 1


def item_end(found, at):
    """The last token of the item that begins at `at`: its `;`, or the end of its braces."""
    while at < len(found):
        if found[at][0] in "([":
            at = closing(found, at)
        elif found[at][0] == "{":
            return closing(found, at)
        elif found[at][0] == ";":
            return at
        at += 1
    return at


def without_tests(found):
    """The same without what is only there for tests."""
    out, at = [], 0
    while at < len(found):
        inner = at + 1 < len(found) and found[at + 1][0] == "!"
        if found[at][0] == "#" and found[at + 1 + inner][0] == "[":
            end = closing(found, at + 1 + inner)
            words = [word for word, _ in found[at + 2 + inner:end]]
            if words[:1] == ["cfg"] and "test" in words and not {"not", "any"} & set(words):
                if inner:
                    return out
                at = end + 1
                while at + 1 < len(found) and found[at][0] == "#":
                    at = closing(found, at + 1) + 1
                at = item_end(found, at) + 1
                continue
        out.append(found[at])
        at += 1
    return out


def use_tree(found, at, prefix):
    """The paths of a `use` from `at` on, each with the name that it gets, and where the tree ends. `*` is the name of a glob."""
    path, out = list(prefix), []
    while True:
        word, line = found[at]
        if word == "{":
            at += 1
            while found[at][0] != "}":
                more, at = use_tree(found, at, path)
                out += more
                at += found[at][0] == ","
            return out, at + 1
        if word == "*":
            return [(path, "*", line)], at + 1
        if word == "self" and path and path != ["self"]:
            name = path[-1]
        else:
            path = path + [word]
            name = word
        at += 1
        if found[at][0] == "::":
            at += 1
            continue
        if found[at][0] == "as":
            name, at = found[at + 1][0], at + 2
        return [(path, name, line)], at


class Module:
    def __init__(self, path, file):
        self.path, self.file = path, file
        self.children, self.names, self.globs, self.uses = {}, {}, [], []


class Crate:
    """The modules of a crate, and what they use."""

    def __init__(self, source):
        self.source, self.modules = source, {}
        self.read((), source / "lib.rs")

    def read(self, path, file):
        module = self.modules[path] = Module(path, file)
        self.scan(module, without_tests(tokens(file.read_text())), file.parent if not path or file.name == "mod.rs" else file.with_suffix(""))

    def scan(self, module, found, folder):
        at, depth = 0, 0
        while at < len(found):
            word, line = found[at]
            ahead = found[at + 1][0] if at + 1 < len(found) else ""
            if word == "mod" and depth == 0 and found[at + 2][0] in ";{":
                path = module.path + (ahead,)
                if found[at + 2][0] == "{":
                    module.children[ahead] = path
                if found[at + 2][0] == ";":
                    files = [file for file in (folder / f"{ahead}.rs", folder / ahead / "mod.rs") if file.exists()]
                    if files:  # else it lies elsewhere, by #[path]: the planted faults do
                        module.children[ahead] = path
                        self.read(path, files[0])
                    at += 2
                else:
                    end = closing(found, at + 2)
                    inner = self.modules[path] = Module(path, module.file)
                    self.scan(inner, found[at + 3:end], folder / ahead)
                    at = end
            elif word == "use" and ahead != "<" and (at == 0 or found[at - 1][0] != "+"):
                at += 1
                at += found[at][0] == "::"
                tree, at = use_tree(found, at, [])
                for target, name, where in tree:
                    module.uses.append((target, where, name == "*"))
                    if depth == 0 and name == "*":
                        module.globs.append(target)
                    elif depth == 0:
                        module.names[name] = target
            elif word in ("crate", "super", "self") and ahead == "::" and (at == 0 or found[at - 1][0] not in ("::", "$", "in")):
                target = [word]
                while at + 2 < len(found) and found[at + 1][0] == "::" and re.match(r"\w", found[at + 2][0]):
                    target.append(found[at + 2][0])
                    at += 2
                module.uses.append((target, line, False))
            else:
                depth += (word == "{") - (word == "}")
            at += 1

    def start(self, module, target):
        """A path of a module from the crate root on: a module, and the words behind it. `None` for what is of another crate."""
        base, rest = module.path, list(target)
        if rest[0] == "crate":
            return (), rest[1:]
        if rest[0] in ("self", "super"):
            while rest and rest[0] in ("self", "super"):
                base = base[:-1] if rest.pop(0) == "super" else base
            return base, rest
        return (base, rest) if rest[0] in module.children else None

    def definer(self, base, rest, seen=frozenset()):
        """The path of the module that defines what a path leads to; `None` where it leads out of the crate, or nowhere."""
        if (base, tuple(rest)) in seen:
            return None
        seen |= {(base, tuple(rest))}
        module = self.modules[base]
        if not rest:
            return base
        name = rest[0]
        if name in module.children and (len(rest) > 1 or name not in module.names):
            return self.definer(module.children[name], rest[1:], seen)
        if name in module.names:
            start = self.start(module, module.names[name])
            return start and self.definer(start[0], start[1] + rest[1:], seen)
        for target in module.globs:
            start = self.start(module, target)
            owner = start and self.module_at(*start)
            if owner is not None and self.has(owner, name, seen):
                return self.definer(owner, rest, seen)
        return base

    def module_at(self, base, rest):
        for name in rest:
            base = self.modules[base].children.get(name)
            if base is None:
                return None
        return base

    def has(self, path, name, seen):
        """Whether a module defines a name, or brings it in."""
        module = self.modules[path]
        if name in module.children or name in module.names:
            return True
        if re.search(rf"\b(?:fn|struct|enum|union|trait|type|const|static|mod|macro_rules!)\s+{re.escape(name)}\b", module.file.read_text()):
            return True
        return self.definer(path, [name], seen) not in (None, path)

    def arrows(self):
        """Which module uses which, and the first line that says so; what is taken from a re-export of the root stands in the second list."""
        arrows, detours = collections.defaultdict(dict), []
        for path, module in self.modules.items():
            for target, line, _ in module.uses:
                start = self.start(module, target)
                if start is None:
                    continue
                definer = self.definer(*start)
                if path and start[0] == () and start[1] and start[1][0] not in self.modules[()].children and definer:
                    detours.append((module.file, line, "::".join(target), "::".join(("crate",) + definer)))
                if definer is None or path[:len(definer)] == definer or definer[:len(path)] == path:
                    continue
                arrows[path].setdefault(definer, (module.file, line))
        return arrows, detours


def circles(arrows):
    """The groups of modules that use each other in circles, each by one of its shortest circles."""
    reach = {}
    for start in arrows:
        seen, ahead = set(), [start]
        while ahead:
            for to in arrows.get(ahead.pop(), ()):
                if to not in seen:
                    seen.add(to)
                    ahead.append(to)
        reach[start] = seen
    done = set()
    for start in sorted(arrows):
        group = {other for other in reach[start] if start in reach.get(other, ())}
        if not group or start in done:
            continue
        done |= group
        yield group, min((shortest(arrows, member, group) for member in sorted(group)), key=len)


def shortest(arrows, start, group):
    """The shortest circle through a module."""
    before, ahead = {}, collections.deque([start])
    while ahead:
        at = ahead.popleft()
        for to in arrows[at]:
            if to == start:
                way = [at]
                while way[-1] != start:
                    way.append(before[way[-1]])
                return way[::-1]
            if to in group and to not in before:
                before[to] = at
                ahead.append(to)


def functions(found):
    """Each function: name, first line, last line."""
    for at, (word, line) in enumerate(found[:-1]):
        if word == "fn" and re.match(r"\w", found[at + 1][0]):
            end = item_end(found, at)
            if end < len(found) and found[end][0] == "}":
                yield found[at + 1][0], line, found[end][1]


def check(root, say):
    """Says what is wrong, a line each; returns a summary."""
    sums = collections.Counter()
    longest_function, longest_file = (0, ""), (0, "")
    for source in sorted(root.glob("crates/*/src")):
        name = source.parent.name
        crate = Crate(source)
        arrows, detours = crate.arrows()
        short = lambda file: f"{name}/{file.relative_to(source)}"
        sums["crates"] += 1
        sums["modules"] += len(crate.modules)
        sums["arrows"] += sum(map(len, arrows.values()))
        for group, way in circles(arrows):
            sums["circles"] += 1
            steps = [arrows[one][two] for one, two in zip(way, way[1:] + way[:1])]
            files = ", ".join(f"{short(file)}:{line} -> {'::'.join(two)}" for (file, line), two in zip(steps, way[1:] + way[:1]))
            say(f"circle of {len(way)} modules, {len(group)} in all: {files}")
        for file, line, said, definer in detours:
            say(f"{short(file)}:{line}: {said} goes by way of the crate root: name the defining module instead: {definer}")
        for file in sorted(source.rglob("*.rs")):
            text = file.read_text()
            lines = text.count("\n")
            longest_file = max(longest_file, (lines, short(file)))
            if lines > FILE:
                say(f"{short(file)}: {lines} lines, {FILE} at the most")
            if file.name == "mod.rs":
                say(f"{short(file)}: a module's face stands beside its folder, under its name")
            if not re.match(r"(?:\s*//[^/!][^\n]*\n|\s*#!\[[^\n]*\n)*\s*//!", text):
                say(f"{short(file)}: no module doc (//!)")
            for function, first, last in functions(tokens(text)):
                length = last - first + 1
                longest_function = max(longest_function, (length, f"{short(file)}:{first} {function}"))
                if length > FUNCTION and f"{short(file)}: {function}" not in LONG_FUNCTIONS:
                    say(f"{short(file)}:{first}: {function} has {length} lines, {FUNCTION} at the most")
    links(root, say)
    return (f"{sums['crates']} crates, {sums['modules']} modules, {sums['arrows']} arrows, {sums['circles']} circles; "
            f"longest function: {longest_function[0]} lines, {longest_function[1]}; longest file: {longest_file[0]} lines, {longest_file[1]}")


def links(root, say):
    """Links to the rules lead to a heading of docs/design.md, which the crate s2s carries a copy of for its documentation."""
    rules, carried = root / "docs/design.md", root / "crates/s2s/docs/design.md"
    if not rules.exists():
        return
    if not carried.exists() or carried.read_text() != rules.read_text():
        say(f"{carried.relative_to(root)} is not the copy of {rules.relative_to(root)} that it should be: cp {rules.relative_to(root)} {carried.relative_to(root)}")
    slug = lambda heading: re.sub(r"[^\w-]", "", heading.strip().lower().replace(" ", "-"))
    anchors = {slug(heading) for heading in re.findall(r"^#+ (.*)$", rules.read_text(), re.M)}
    texts = [rules, *root.glob("*.md"), *root.glob("crates/**/*.rs"), *root.glob("examples/**/*.rs")]
    for file in texts:
        for number, line in enumerate(file.read_text().splitlines(), 1):
            for anchor in re.findall(r"\b(?:design|design\.md)#([\w-]+)", line) + (re.findall(r"\]\(#([\w-]+)\)", line) if file == rules else []):
                if anchor not in anchors:
                    say(f"{file.relative_to(root)}:{number}: docs/design.md has no heading for #{anchor}")


CLEAN = {
    "lib.rs": "//! Doc.\nmod a;\nmod b;\nmod c;\npub use b::B;\npub use c::*;\n",
    "a.rs": "//! Uses b, and its own child, which uses it.\nmod inner;\nuse crate::b::B as Bee;\nfn f(_: Bee) { inner::g(super::c::C) }\n",
    "a/inner.rs": "//! Doc.\nuse super::*;\npub(super) fn g(_: crate::c::C) { let _ = r#\"crate::a::f \"#; let _: &'static str = \"use crate::a;\"; }\n",
    "b.rs": "//! Doc.\n// use crate::a;\n/* use crate::a; /* nested */ */\npub struct B;\n#[cfg(test)]\nmod tests { use crate::a; fn t() { super::super::a::f() } }\n",
    "c.rs": "//! Doc.\npub struct C;\npub use crate::b::B as OfB;\n",
}


def self_test():
    """Plants what is to be found into a clean crate, one thing at a time."""
    planted = [
        ("a clean crate", {}, None),
        ("a circle", {"b.rs": "//! Doc.\nuse crate::a::f;\npub struct B;\n"}, r"^circle of 2 modules.* one/a.rs:3 -> b, one/b.rs:2 -> a"),
        ("a circle by a path in a body", {"b.rs": "//! Doc.\npub struct B;\nfn x() { crate::a::f() }\n"}, r"^circle of 2 modules.*one/b.rs:3 -> a"),
        ("a circle by super", {"b.rs": "//! Doc.\npub struct B;\nuse super::{c::C, a::{self, f}};\n"}, r"^circle of 2 modules.*one/b.rs:3 -> a"),
        ("a circle by a re-export of the root", {"lib.rs": CLEAN["lib.rs"] + "pub use a::f as Eff;\n", "b.rs": "//! Doc.\npub struct B;\nuse crate::Eff;\n"}, r"^circle of 2 modules.*one/b.rs:3 -> a"),
        ("a circle by a re-export of a module", {"c.rs": "//! Doc.\npub struct C;\npub use crate::a::f;\n", "b.rs": "//! Doc.\npub struct B;\nuse crate::c::{C, f as g};\n"}, r"^circle of 2 modules.*one/b.rs:3 -> a"),
        ("a circle by a glob of a glob", {"c.rs": "//! Doc.\npub struct C;\npub use crate::a::*;\n", "a.rs": CLEAN["a.rs"].replace("super::c::C", "()"), "a/inner.rs": "//! Doc.\npub fn g(_: ()) {}\n", "b.rs": "//! Doc.\npub struct B;\nuse super::c::*;\nfn x() { crate::c::f() }\n"}, r"^circle of \d modules"),
        ("a circle by a submodule", {"b.rs": "//! Doc.\npub struct B;\nuse crate::a::inner::g;\n", "a/inner.rs": "//! Doc.\nuse crate::b::B;\npub fn g(_: B) {}\n"}, r"^circle of 2 modules.*one/a/inner.rs:2 -> b"),
        ("a use by way of the root", {"a.rs": "//! Doc.\nmod inner;\nuse crate::{B, c::C};\nfn f(_: B, _: C) {}\n"}, r"^one/a.rs:3: crate::B goes .*: crate::b$"),
        ("a use by way of a glob of the root", {"a.rs": "//! Doc.\nmod inner;\nuse super::C;\nfn f(_: C) {}\n"}, r"^one/a.rs:3: super::C goes .*: crate::c$"),
        ("a long function", {"b.rs": "//! Doc.\npub struct B;\nfn f() {\n" + "();\n" * FUNCTION + "}\n"}, r"^one/b.rs:3: f has 62 lines"),
        ("a long file", {"b.rs": "//! Doc.\npub struct B;\n" + "\n" * FILE}, r"^one/b.rs: 602 lines"),
        ("a rule that is none", {"b.rs": "//! Doc ([rule 1](crate::design#rule-1), [rule 2](crate::design#rule-2)).\n", "../../../docs/design.md": "### Rule 1\n", "../../s2s/docs/design.md": "### Rule 1\n"}, r"^crates/one/src/b.rs:1: .*#rule-2$"),
        ("a copy of the rules that is old", {"../../../docs/design.md": "### Rule 1\n", "../../s2s/docs/design.md": "### Rule\n"}, r"^crates/s2s/docs/design.md is not the copy"),
        ("a file without doc", {"b.rs": "#![allow(x)]\n/// Doc.\npub struct B;\n"}, r"^one/b.rs: no module doc"),
    ]
    failed = 0
    for what, change, expected in planted:
        with tempfile.TemporaryDirectory() as folder:
            source = pathlib.Path(folder) / "crates/one/src"
            for file, text in {**CLEAN, **change}.items():
                (source / file).parent.mkdir(parents=True, exist_ok=True)
                (source / file).write_text(text)
            said = []
            check(pathlib.Path(folder), said.append)
        found = any(re.search(expected, line) for line in said) if expected else not said
        if not found:
            failed += 1
            print(f"{what}: {'not found' if expected else 'called wrong'}:", *said, sep="\n    ")
    print(f"{len(planted)} checks of the checks, {failed} failed")
    return failed


def main(arguments):
    root = pathlib.Path(__file__).resolve().parent.parent
    if arguments == ["--self-test"]:
        return self_test() > 0
    if arguments[:1] == ["--arrows"]:
        source = root / "crates" / arguments[1] / "src"
        for path, to in sorted(Crate(source).arrows()[0].items()):
            print("::".join(path) + ":", ", ".join(f"{'::'.join(other)} ({line})" for other, (_, line) in sorted(to.items())))
        return False
    said = []
    summary = check(pathlib.Path(arguments[0]) if arguments else root, said.append)
    print(*said, summary, sep="\n")
    return bool(said)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
