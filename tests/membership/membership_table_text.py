"""The membership tables as the tables of ``docs/protocol/membership.md`` section 5.4.

``python tests/membership/membership_table_text.py`` prints them.
"""

from __future__ import annotations

from txspread.engine.membership.tables import TABLE, Condition


def tables_text() -> str:
    """One heading and one table for each state."""
    lines: list[str] = []
    for state, events in TABLE.items():
        lines += [f"#### {state.name}", "", "| Event | If | Then | Next |", "|---|---|---|---|"]
        for event, rows in events.items():
            for number, row in enumerate(rows):
                name = event.value if number == 0 else ""
                only = len(rows) == 1
                condition = "" if only else row.condition.value
                if row.condition is not Condition.ALWAYS:
                    condition = row.condition.value
                actions = "; ".join(action.value for action in row.actions) or "-"
                after = " or ".join(each.name for each in row.next_states)
                lines.append(f"| {name} | {condition} | {actions} | {after} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    print(tables_text())
