"""How the page looks; phones first, no fonts or scripts from anywhere."""

CSS = """
:root { color-scheme: light; --line: #d0d4da; --soft: #f4f5f7; --ink: #1b1f24; --dim: #4d555f; --link: #0b57a4; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 0 1rem 4rem; color: var(--ink); background: #fff;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 1.5rem 0 .5rem; }
h2 { font-size: 1.3rem; margin: 3rem 0 .5rem; border-bottom: 2px solid var(--line); padding-bottom: .2rem; }
h3 { font-size: 1.1rem; margin: 2.2rem 0 .4rem; }
h4 { font-size: 1rem; margin: 1.4rem 0 .3rem; }
h1, h2, h3, h4, p, li, dd, figcaption, summary { overflow-wrap: anywhere; }
p, ul, dl { max-width: 60rem; }
a { color: var(--link); }
a:focus-visible, summary:focus-visible, .scroll:focus-visible { outline: 3px solid #0b57a4; outline-offset: 2px; }
.skip { position: absolute; left: -999rem; }
.skip:focus { position: static; }
.banner { border: 1px solid #c98a00; border-left-width: .5rem; background: #fff8e6; padding: .6rem 1rem; margin: 1rem 0; }
.banner p { margin: .3rem 0; }
nav { background: var(--soft); padding: .6rem 1rem; margin: 1rem 0; }
nav ul { list-style: none; margin: .2rem 0; padding: 0; display: flex; flex-wrap: wrap; gap: .25rem 1rem; max-width: none; }
nav li.wide { flex-basis: 100%; }
nav a { display: inline-block; padding: .2rem 0; }
.scroll { overflow-x: auto; max-width: 100%; margin: .6rem 0 1rem; border: 1px solid var(--line); }
table { border-collapse: collapse; font-size: .875rem; line-height: 1.4; width: max-content; min-width: 100%; }
th, td { padding: .35rem .6rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line);
  font-weight: normal; max-width: 26rem; }
thead th { background: var(--soft); font-weight: 600; vertical-align: bottom; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
tbody tr:last-child > * { border-bottom: 0; }
.claims { width: 100%; min-width: 44rem; }
.claims th p { margin: .25rem 0 0; }
.texts { width: 100%; min-width: 46rem; }
.texts th[scope=row], .texts td { max-width: none; }
.claims th[scope=row] { min-width: 15rem; }
.claims th[scope=row], .claims thead th { max-width: none; }
.claims .number { white-space: normal; }
.claims details { margin-top: .25rem; color: var(--dim); }
.claims summary { cursor: pointer; color: var(--link); }
.claims details p { margin: .3rem 0; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; min-width: 13rem; }
.badge { display: inline-block; border: 1px solid; border-radius: .3rem; padding: .05rem .45rem; font-weight: 600;
  white-space: nowrap; }
.reproduced { color: #0b5c2e; background: #e3f4e8; }
.opposite { color: #8c1d18; background: #fdeae8; }
.not-reproduced { color: #7a3e00; background: #fdf0df; }
.inconclusive { color: #3f4650; background: #eceef1; }
.not-run { color: #5b6470; background: #fff; border-style: dashed; }
.counts { list-style: none; display: flex; flex-wrap: wrap; gap: .5rem; padding: 0; }
figure { margin: 1rem 0 2rem; }
figure .scroll { border: 0; }
figure img { display: block; max-width: min(100%, 62rem); height: auto; }
figcaption, .dim { color: var(--dim); font-size: .9rem; }
blockquote { margin: .4rem 0; padding: .3rem 1rem; border-left: .3rem solid var(--line); overflow-wrap: anywhere; }
@media (max-width: 40rem) {
  body { padding: 0 .7rem 3rem; font-size: 15px; }
  h1 { font-size: 1.35rem; }
  th, td { max-width: 17rem; padding: .3rem .45rem; }
  .claims th > p, .claims th > details { max-width: calc(100vw - 3.2rem); }
  figure img { max-width: none; width: max(100%, 36rem); }
}
@media print { nav { display: none; } .scroll { overflow: visible; border: 0; } }
"""
