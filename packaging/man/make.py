"""Makes the manual pages from the command lines and the documentation.

    python packaging/man/make.py [DIRECTORY]

Section 1 pages come from the option parsers, ``spread.conf(5)`` from
``docs/configuration.md``, each with what the script's tables add.  The pages are kept
beside this file; a test tells when they are no longer what this script makes.
"""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

COMMANDS = {
    "txspread": ("txspread.daemon.command", "Spread group-communication daemon"),
    "txspread-trace": ("txspread.observe.command", "look at traces of Spread daemons"),
    "txspread-render": ("txspread.tools.render", "write a spread.conf from host names"),
}
SEE_ALSO = {
    "txspread": "spread.conf(5), txspread-trace(1), txspread-render(1)",
    "txspread-trace": "txspread(1)",
    "txspread-render": "txspread(1), spread.conf(5)",
}


def escape(text: str) -> str:
    """Text as roff wants it."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    text = re.sub(r"[^\x00-\x7f]", lambda found: f"\\[u{ord(found[0]):04X}]", text)
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.MULTILINE)


def title(name: str, section: int, summary: str) -> list[str]:
    """The first lines of a page."""
    return [
        f'.TH "{name.upper()}" {section} "" "txspread" "Spread"',
        ".SH NAME",
        f"{escape(name)} \\- {summary}",
    ]


def command_page(name: str) -> str:
    """The page of a command, from its parser."""
    module, summary = COMMANDS[name]
    parser: argparse.ArgumentParser = importlib.import_module(module).make_parser()
    lines = title(name, 1, summary)
    lines += [".SH SYNOPSIS", f".B {escape(name)}", escape(synopsis(parser))]
    lines += [".SH DESCRIPTION", escape(words(parser.description))]
    lines += options(parser)
    if parser.epilog:
        lines += [".SH NOTES", escape(words(parser.epilog))]
    if name == "txspread":
        lines += markdown_sections(
            ROOT / "docs" / "operating.md",
            {"Exit codes": "EXIT STATUS", "Signals": "SIGNALS", "Files": "FILES"},
        )
    lines += [".SH SEE ALSO", escape(SEE_ALSO[name])]
    return "\n".join(lines) + "\n"


def words(text: str | None) -> str:
    """One paragraph."""
    return " ".join((text or "").split())


def synopsis(parser: argparse.ArgumentParser) -> str:
    """The words behind the command's name."""
    parts = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            parts.append("COMMAND ...")
        elif action.option_strings:
            shown = action.option_strings[0] + (f" {value(action)}" if takes_value(action) else "")
            parts.append(f"[{shown}]" if not action.required else shown)
        else:
            parts.append(
                f"[{value(action)} ...]" if action.nargs == "*" else f"{value(action)} ..."
            )
    return " ".join(parts)


def takes_value(action: argparse.Action) -> bool:
    """Whether an option has a value."""
    return action.nargs != 0


def value(action: argparse.Action) -> str:
    """How an option's value is written."""
    if action.choices is not None:
        return "|".join(map(str, action.choices))
    name = action.metavar or action.dest.upper()
    name = name if isinstance(name, str) else " ".join(name)
    return f"[{name}]" if action.nargs == "?" else name


def options(parser: argparse.ArgumentParser) -> list[str]:
    """The sections of options and of subcommands."""
    lines: list[str] = []
    for group in parser._action_groups:
        shown = [action for action in group._group_actions if action.help is not argparse.SUPPRESS]
        if not shown:
            continue
        if any(isinstance(action, argparse._SubParsersAction) for action in shown):
            lines += subcommands(shown[0])
            continue
        lines.append(f".SH {escape(str(group.title).upper())}")
        lines += entries(parser, shown)
    return lines


def entries(parser: argparse.ArgumentParser, actions: list[argparse.Action]) -> list[str]:
    """One paragraph for each option."""
    lines = []
    for action in actions:
        names = ", ".join(action.option_strings) or value(action)
        if action.option_strings and takes_value(action):
            names += f" {value(action)}"
        # Defaults may be of this machine: the page is for all.
        details = {**vars(action), "prog": parser.prog, "default": _default(action)}
        text = (action.help or "") % details
        lines += [".TP", f".B {escape(names)}", escape(words(text))]
    return lines


def _default(action: argparse.Action) -> object:
    if action.dest == "state_directory":
        return "/var/lib/txspread for root, else ~/.local/state/txspread"
    return action.default


def subcommands(action: argparse.Action) -> list[str]:
    """A section for the subcommands with their options."""
    assert isinstance(action, argparse._SubParsersAction)
    lines = [".SH COMMANDS"]
    helps = {choice.dest: choice.help for choice in action._choices_actions}
    for name, parser in action.choices.items():
        lines += [f".SS {escape(name)} {escape(synopsis(parser))}", escape(words(helps[name]))]
        lines += entries(parser, [one for one in parser._actions if one.dest != "help"])
    return lines


def markdown_sections(path: Path, wanted: dict[str, str]) -> list[str]:
    """Sections of a page of the documentation under other headings."""
    lines: list[str] = []
    for heading, text in split_sections(path.read_text(encoding="utf-8")):
        if heading in wanted:
            lines += [f".SH {wanted[heading]}", *markdown(text)]
    return lines


def split_sections(text: str) -> list[tuple[str, str]]:
    """Level-two sections with their headings; the text before the first has none."""
    parts = re.split(r"^## +(.*)$", text, flags=re.MULTILINE)
    pairs = [("", parts[0])]
    pairs += list(zip(parts[1::2], parts[2::2], strict=True))
    return pairs


def inline(text: str) -> str:
    """Words of Markdown as roff."""
    text = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"\[\]\(([^)]*)\)", r"\1", text)
    text = re.sub(r"\{[\w:]+\}`~?([^`]+)`", r"`\1`", text)
    text = escape(text)
    text = re.sub(r"`([^`]+)`", r"\\fB\1\\fP", text)
    return re.sub(r"\*\*([^*]+)\*\*", r"\\fB\1\\fP", text)


def markdown(text: str) -> list[str]:
    """The Markdown that the documentation uses: paragraphs, lists, tables, code."""
    lines: list[str] = []
    code = False
    for block in re.split(r"\n\s*\n", re.sub(r"(?m)^```\w*$", "\n```\n", text)):
        for part in [block.strip("\n")]:
            if part.strip() == "```":
                code = not code
                lines.append(".nf" if code else ".fi")
            elif code:
                lines += [escape(line) or ".sp" for line in part.split("\n")]
            elif part.lstrip().startswith("|"):
                lines += table(part)
            elif part.startswith("#"):
                heading, _, rest = part.partition("\n")
                lines.append(f".SS {inline(heading.strip('# '))}")
                lines += markdown(rest) if rest else []
            elif re.match(r"[*-] ", part):
                for item in re.split(r"(?m)^[*-] ", part)[1:]:
                    lines += [".IP \\(bu 2", inline(words(item))]
                lines.append(".PP")
            elif "\n: " in part:
                term, _, meaning = part.partition("\n: ")
                lines += [".TP", f".B {inline(term)}", inline(words(meaning))]
            elif part.strip():
                lines += [".PP", inline(words(part))]
    return lines


def table(text: str) -> list[str]:
    """A table as a list: the first column is the term, the others say what of it."""
    rows = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", row.strip().strip("|"))]
        for row in text.strip().split("\n")
    ]
    heads, lines = rows[0], []
    for row in rows[2:]:
        lines += [".TP", f".B {inline(row[0])}"]
        if len(row) == 2:
            lines.append(inline(row[1]))
        else:
            cells = [
                f"{inline(head)}: {inline(cell)}" if head else inline(cell)
                for head, cell in zip(heads[1:], row[1:], strict=False)
                if cell
            ]
            lines.append("; ".join(cells))
    lines.append(".PP")
    return lines


def configuration_page() -> str:
    """``spread.conf(5)``."""
    sections = split_sections((ROOT / "docs" / "configuration.md").read_text(encoding="utf-8"))
    lines = title("spread.conf", 5, "configuration of Spread daemons")
    for heading, text in sections:
        body = re.sub(r"(?m)^# .*$", "", text) if not heading else text
        name = re.sub(r"^[\d.]+ ", "", heading).upper() or "DESCRIPTION"
        lines += [f".SH {escape(name)}", *markdown(body)]
    lines += [".SH SEE ALSO", "txspread(1)"]
    return "\n".join(lines) + "\n"


def pages() -> dict[str, str]:
    """All pages by file name."""
    made = {f"{name}.1": command_page(name) for name in COMMANDS}
    made["spread.conf.5"] = configuration_page()
    return made


def main() -> None:
    """Write the pages."""
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    for name, text in pages().items():
        (directory / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
