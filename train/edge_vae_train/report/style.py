"""The look of the report: screen and paper, phone and desk, light and dark."""

from __future__ import annotations

__all__ = ["CSS"]

CSS = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1c2430; --soft: #5b6675; --line: #d9dee5; --panel: #f5f7f9;
  --a: #1f6fb4; --b: #d9730d; --c: #8a5cc7; --d: #2c8a6b; --bad: #c4314b; --good: #1f7a4d; --open: #8a6d1a; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181e; --ink: #e4e8ee; --soft: #9aa5b4; --line: #333b47;
  --panel: #1c222a; --a: #64a9e8; --b: #f0a04b; --c: #b698ea; --d: #5cc29d; --bad: #f0758a; --good: #5cc28d;
  --open: #d9bb5c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.2rem 1rem 4rem; max-width: 62rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: .5rem 0; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .6rem; padding-top: .6rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.4rem 0 .3rem; }
p { margin: .5rem 0; max-width: 46rem; }
ul { padding-left: 1.2rem; margin: .5rem 0; max-width: 46rem; }
.soft, figcaption, .legend, footer { color: var(--soft); font-size: .88rem; }
nav { font-size: .9rem; line-height: 2; } nav a { color: var(--a); margin-right: 1rem; white-space: nowrap; }
.findings { display: grid; gap: .6rem; margin: 1rem 0; }
.finding { background: var(--panel); border-left: 5px solid var(--open); border-radius: 4px; padding: .6rem .9rem; }
.finding.good { border-color: var(--good); } .finding.bad { border-color: var(--bad); }
.finding strong { display: block; } .finding p { margin: .15rem 0 0; max-width: none; }
.finding em { font-style: normal; font-size: .78rem; letter-spacing: .04em; text-transform: uppercase;
  color: var(--open); }
.finding.good em { color: var(--good); } .finding.bad em { color: var(--bad); }
.scroll { overflow-x: auto; margin: .7rem 0; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { padding: .28rem .8rem .28rem 0; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th:first-child { text-align: left; font-weight: 500; } thead th { color: var(--soft); font-weight: 500;
  vertical-align: bottom;
  white-space: normal; max-width: 11rem; }
tr.strong > * { font-weight: 700; }
.words td:last-child { white-space: normal; min-width: 15rem; text-align: left; }
  .words th:last-child { text-align: left; }
td:has(.barred) { text-align: left; }
.sparks th { white-space: normal; text-align: left; vertical-align: bottom; max-width: 5.6rem; font-size: .78rem; }
.sparks td, .sparks th { padding-right: .5rem; }
td.heat { text-align: center; padding: .28rem .5rem; }
.barred { display: inline-flex; align-items: center; gap: .5rem; } .barred b { font-weight: inherit;
  min-width: 3.2rem; }
.bar { width: 7rem; height: .65rem; background: var(--panel); border-radius: 3px; overflow: hidden;
  display: inline-block; }
.bar i { display: block; height: 100%; background: var(--a); } .bar.warn i { background: var(--b); }
figure { margin: .8rem 0; } figcaption { margin-bottom: .15rem; }
figcaption b { color: var(--ink); font-weight: 600; }
.chart { display: grid; grid-template-columns: 3.4rem 1fr; gap: 0 .4rem; font-size: .75rem; color: var(--soft); }
.up { display: flex; flex-direction: column; justify-content: space-between; text-align: right; line-height: 1.1; }
.up .name { writing-mode: vertical-rl; transform: rotate(180deg); align-self: flex-end; }
.across { display: flex; justify-content: space-between; gap: .5rem; } .name { font-style: italic; }
.plot { border-left: 1px solid var(--soft); border-bottom: 1px solid var(--soft); background: var(--panel); }
.plot.tall { height: 17rem; } .plot.low { height: 6.2rem; } .plot.mid { height: 10rem; }
svg { display: block; width: 100%; height: 100%; overflow: hidden; }
.line { fill: none; stroke: var(--a); stroke-width: 1.5; vector-effect: non-scaling-stroke; stroke-linejoin: round; }
.dots { fill: none; stroke: var(--a); stroke-width: 4; stroke-linecap: round; vector-effect: non-scaling-stroke;
  opacity: .45; }
.dots.point { stroke-width: 11; opacity: 1; }
.area { fill: var(--a); opacity: .5; }
.line.a, .dots.a { stroke: var(--a); } .line.b, .dots.b { stroke: var(--b); } .line.c, .dots.c { stroke: var(--c); }
.line.d, .dots.d { stroke: var(--d); } .line.ink, .dots.ink { stroke: var(--ink); }
.line.soft { stroke: var(--soft); stroke-dasharray: 2 3; stroke-width: 1; }
.line.limit { stroke: var(--ink); stroke-dasharray: 6 4; stroke-width: 1; }
.line.strong { stroke-width: 2.4; }
.area.a { fill: var(--a); } .area.b { fill: var(--b); } .area.label { fill: var(--bad); opacity: .2; }
.area.alarm { fill: var(--b); opacity: 1; }
.key { display: inline-block; width: 1.1rem; height: .55rem; margin: 0 .35rem 0 0; background: var(--a);
  border-radius: 2px; }
.legend span { margin-right: 1.1rem; white-space: nowrap; } .key.b, .key.alarm { background: var(--b); }
.key.c { background: var(--c); } .key.d { background: var(--d); } .key.ink { background: var(--ink); }
.key.label { background: var(--bad); opacity: .3; } .key.limit { background: none; border-top: 2px dashed var(--ink);
  height: 0; vertical-align: middle; }
.key.soft { background: none; border-top: 2px dotted var(--soft); height: 0; vertical-align: middle; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(14rem, 1fr)); gap: 0 1.2rem; }
.spark { width: 5.6rem; height: 2.6rem; background: var(--panel); } .spark .line { stroke-width: 1.3; }
.s0, .key.s0 { stroke: var(--a); background: var(--a); } .s1 { stroke: var(--a); opacity: .5; }
  .s2 { stroke: var(--soft); }
.s3 { stroke: var(--b); opacity: .5; } .s4, .key.s4 { stroke: var(--b); background: var(--b); }
  .key.s2 { background: var(--soft); }
.picture { max-width: 100%; background: #fff; border-radius: 4px; }
@media (max-width: 34rem) { body { font-size: 15px; padding: .8rem .7rem 3rem; } h1 { font-size: 1.35rem; }
  .plot.tall { height: 13rem; } .chart { grid-template-columns: 2.6rem 1fr; } .bar { width: 4rem; }
  th, td { padding-right: .6rem; } thead th { max-width: 5.5rem; }
  th:first-child { position: sticky; left: 0; background: var(--paper); white-space: normal; max-width: 8.5rem;
    overflow-wrap: break-word; }
  .scroll .picture { min-width: 36rem; }
  .words, .words tbody { display: block; } .words thead { display: none; }
  .words tr { display: flex; flex-wrap: wrap; gap: 0 .8rem; border-bottom: 1px solid var(--line); padding: .3rem 0; }
  .words tr > * { border: 0; padding: 0; max-width: none; } .words td:last-child { flex-basis: 100%; min-width: 0; } }
@media print { :root { color-scheme: light; --paper: #fff; --ink: #000; --soft: #444; --line: #bbb; --panel: #f4f4f4;
  --a: #1f6fb4; --b: #c96500; --c: #8a5cc7; --d: #2c8a6b; --bad: #b0203c; --good: #1f7a4d; --open: #6d5510; }
  body { font-size: 10.5pt; max-width: none; padding: 0; } nav { display: none; } .scroll { overflow: visible; }
  table { font-size: 8pt; } th, td { padding-right: .45rem; } figure, .finding, tr { break-inside: avoid; }
  h2, h3, figcaption { break-after: avoid; } * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""
