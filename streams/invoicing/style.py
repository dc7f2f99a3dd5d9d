"""How printed pages look: A4, one face, hairlines; readable on a screen, too."""

from __future__ import annotations

PAGE = """
@page { size: A4; margin: 16mm 14mm 18mm;
  @bottom-right { content: counter(page) " / " counter(pages); font: 8pt sans-serif; color: #667; } }
* { box-sizing: border-box; }
html { font: 9.5pt/1.4 "Helvetica Neue", Helvetica, Arial, "Liberation Sans", sans-serif; color: #1b1f24;
  background: #fff; -webkit-print-color-adjust: exact; print-color-adjust: exact; }
body { margin: 0 auto; max-width: 182mm; padding: 10mm 0; }
@media print { body { padding: 0; max-width: none; } }
header { display: flex; justify-content: space-between; align-items: flex-start;
  border-bottom: 1.2pt solid #1b1f24; padding-bottom: 4mm; }
h1 { font-size: 17pt; line-height: 1.2; margin: 0; font-weight: 600; }
h2 { font-size: 11pt; margin: 8mm 0 2mm; font-weight: 600; break-after: avoid; }
.reference { font-size: 11pt; color: #445; margin: 1mm 0 0; }
.state { border: 1pt solid currentColor; border-radius: 2pt; padding: 1mm 3mm; font-weight: 600; }
.closed { color: #14633c; } .open { color: #9a5b00; }
.parties { display: grid; grid-template-columns: 1fr 1fr 1.3fr; gap: 7mm; margin-top: 6mm; }
.parties h2 { margin: 0 0 1mm; font-size: 8pt; text-transform: uppercase; letter-spacing: .06em;
  color: #667; }
.parties p { margin: 0; overflow-wrap: anywhere; }
.quiet { color: #556; } .one { white-space: nowrap; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: #445; border-bottom: .8pt solid #1b1f24; padding: 1mm 1.2mm; }
td { padding: 1mm 1.2mm; border-bottom: .4pt solid #d5d9de; vertical-align: top; }
th:first-child, td:first-child { padding-left: 0; } th:last-child, td:last-child { padding-right: 0; }
tr { break-inside: avoid; } thead { display: table-header-group; }
.n { text-align: right; white-space: nowrap; }
.two { display: grid; grid-template-columns: 1fr 1fr; gap: 12mm; }
.sum td { border: 0; font-weight: 600; border-top: .8pt solid #1b1f24; }
.due td { border: 0; border-top: 1.2pt solid #1b1f24; font-size: 12pt; font-weight: 600; padding-top: 2mm; }
.lines { font-size: 8pt; } .lines td.id { overflow-wrap: anywhere; min-width: 22mm; }
.lines time { white-space: nowrap; }
.half { width: 50%; }
.minus td { color: #8a1c1c; }
.tag { font-size: 7pt; color: #9a5b00; border: .5pt solid currentColor; border-radius: 1.5pt;
  padding: 0 .8mm; }
footer { margin-top: 8mm; border-top: .4pt solid #d5d9de; padding-top: 2mm; font-size: 7.5pt; color: #556;
  overflow-wrap: anywhere; }
"""
"""The style of a page."""


def running(text: str) -> str:
    """What stands at the foot of every printed page: letters, digits, blanks and hyphens of a text."""
    told = "".join(letter for letter in text if letter.isalnum() or letter in "- ")
    return f'@page {{ @bottom-left {{ content: "{told}"; font: 8pt sans-serif; color: #667; }} }}'
