"""The page's HTML and style sheet, as a Jinja template."""

from __future__ import annotations

STYLE = """
:root {
  color-scheme: light dark;
  --ink: #1d2126; --muted: #656d76; --grid: #e4e6e9; --paper: #ffffff; --wash: #f6f7f8;
}
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8eaed; --muted: #9aa2ab; --grid: #2e343b; --paper: #14171a; --wash: #1c2024; }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body {
  margin: 0 auto; padding: clamp(1.25rem, 4vw, 4rem) clamp(1rem, 4vw, 2.5rem) 4rem; max-width: 76rem;
  background: var(--paper); color: var(--ink);
  font: 400 1.0625rem/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  font-feature-settings: "kern"; text-rendering: optimizeLegibility;
}
header { max-width: 46rem; margin-bottom: 2.5rem; }
h1 { font-size: clamp(1.9rem, 5vw, 2.9rem); line-height: 1.1; letter-spacing: -0.022em; font-weight: 650; margin: 0;
     text-wrap: balance; }
h1 + p { color: var(--muted); font-size: clamp(1.05rem, 2.4vw, 1.3rem); margin: .6rem 0 0; }
h2 { font-size: 1.35rem; letter-spacing: -0.012em; font-weight: 620; margin: 4.5rem 0 .4rem; }
h2 + p { margin-top: 0; }
p, li { max-width: 44rem; text-wrap: pretty; }
a { color: inherit; }
code { font: .92em ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.lede { font-size: 1.2rem; line-height: 1.5; margin: 0 0 .9rem; }
.findings { list-style: none; margin: 0; padding: 0; color: var(--muted); }
.findings li { margin: .3rem 0; }
.findings code { color: var(--ink); }
dl { display: flex; flex-wrap: wrap; gap: .9rem 2.6rem; margin: 2rem 0 0; padding: 1.1rem 0 0;
     border-top: 1px solid var(--grid); }
dt { color: var(--muted); font-size: .82rem; line-height: 1.3; }
dd { margin: 0; font-size: .95rem; }
figure { margin: 1.6rem 0 0; }
figcaption { color: var(--muted); font-size: .9rem; line-height: 1.5; max-width: 44rem; margin-top: .9rem; }
svg { display: block; width: 100%; height: auto; overflow: visible; stroke-linejoin: round; }
svg [class^="n"] { transition: opacity .12s; }
.narrow { display: none; max-width: 30rem; }
.panels { display: grid; gap: 2rem 1.6rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); }
.panels svg { max-width: 34rem; }
.small { display: grid; gap: 1.4rem 1.2rem; grid-template-columns: repeat(4, 1fr); }
.small h3 { font-size: .88rem; font-weight: 560; margin: 0 0 .1rem; display: flex; align-items: center; gap: .45em;
            overflow-wrap: anywhere; line-height: 1.25; }
.legend { display: flex; flex-wrap: wrap; gap: .3rem .35rem; margin: 1rem 0 0; padding: 0; list-style: none; }
.legend li { display: flex; align-items: center; gap: .45em; font-size: .85rem; padding: .12rem .6rem; cursor: default;
             border: 1px solid var(--grid); border-radius: 99px; }
.legend li:hover { background: var(--wash); }
.dot { width: .72em; height: .72em; border-radius: 50%; flex: none; display: inline-block; }
.scroll { overflow-x: auto; margin: 1.4rem 0 0; }
table { border-collapse: collapse; width: 100%; font-size: .93rem; font-variant-numeric: tabular-nums; }
th { font-weight: 500; color: var(--muted); font-size: .84rem; line-height: 1.3; vertical-align: bottom; }
th, td { padding: .6rem 0 .6rem 1.5rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--grid); }
th:first-child, td:first-child { text-align: left; padding-left: 0; white-space: normal; min-width: 15rem; }
tbody tr:hover { background: var(--wash); }
td { vertical-align: top; }
td b { font-weight: 620; }
td:first-child { display: grid; grid-template-columns: auto 1fr; column-gap: .6em; align-items: baseline; }
td small { grid-column: 2; color: var(--muted); font-size: .82rem; line-height: 1.4; }
.same { color: var(--muted); }
.notes { color: var(--muted); font-size: .9rem; margin: .9rem 0 0; padding: 0; list-style: none; }
pre { background: var(--wash); border-radius: .5rem; padding: .9rem 1.1rem; overflow-x: auto; font-size: .88rem;
      line-height: 1.5; max-width: 60rem; }
summary { cursor: pointer; color: var(--muted); }
footer { margin-top: 4.5rem; padding-top: 1.1rem; border-top: 1px solid var(--grid); color: var(--muted);
         font-size: .88rem; }
@media (max-width: 62rem) { .small { grid-template-columns: repeat(3, 1fr); } }
@media (max-width: 52rem) {
  .wide { display: none; } .narrow { display: block; } h2 { margin-top: 3.2rem; }
  th, td { padding-left: 1.1rem; }
}
@media (max-width: 40rem) { .small { grid-template-columns: repeat(2, 1fr); } body { font-size: 1rem; } }
@media print { body { max-width: none; padding: 0; } .legend { display: none; } section { break-inside: avoid; } }
"""

PAGE = (
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="rnnnorm {{ version }}">
<title>{{ title }}</title>
<style>"""
    + STYLE
    + """
{% for k, norm, paint in norms %}
body:has([data-n="{{ k }}"]:hover) svg [class^="n"]:not(.n{{ k }}) { opacity: .12; }
{% endfor %}
</style>
</head>
<body>
<header>
  <h1>{{ title }}</h1>
  <p>{{ subtitle }}</p>
  <dl>
  {% for label, value in facts %}
    <div><dt>{{ label }}</dt><dd>{{ value }}</dd></div>
  {% endfor %}
  </dl>
</header>

<main>
<section aria-label="Result">
  <p class="lede">{{ findings[0]|code }}</p>
  <ul class="findings">
  {% for sentence in findings[1:] %}
    <li>{{ sentence|code }}</li>
  {% endfor %}
  </ul>
  <figure>
    <div class="wide">{{ summary_svg }}</div>
    <div class="narrow">{{ scores_svg }}</div>
    <figcaption><span class="wide">Left: validation {{ metric }} while training, mean over seeds in the band from the
    smallest to the largest; a cross marks a run that diverged. Middle: </span>Test {{ metric }} of the best checkpoint:
    small dots are seeds, bars mean ± standard deviation; hollow marks show batch normalization evaluated the other
    ways.<span class="wide"> Right: last validation loss under running averages, as a multiple of that under the
    batch’s own statistics; 1 means no gap.</span></figcaption>
  </figure>
</section>

<section>
  <h2>Scores</h2>
  <div class="scroll" tabindex="0" role="region" aria-label="Table of scores">
  <table>
    <thead><tr>
      <th scope="col">norm</th>
      {% for mode in modes %}<th scope="col">{{ metric }}<br>{{ mode }}</th>{% endfor %}
      <th scope="col">n</th><th scope="col">diverged</th><th scope="col">training<br>seconds</th>
      <th scope="col">against<br>none</th><th scope="col">parameters</th>
    </tr></thead>
    <tbody>
    {% for r in rows %}
      <tr data-n="{{ r.k }}">
        <td><span class="dot" style="background:{{ r.colour }}"></span><span>{{ r.norm }}</span>
        {% if r.about or r.source %}<small>{{ r.about }}{% if r.source %}<br>{{ r.source }}{% endif %}</small>
        {%- endif %}</td>
        {% for score in r.scores %}
        {% if score is sameas r.headline %}<td><b>{{ score }}</b></td>
        {% else %}<td{% if not r.row.batch_statistics %} class="same"{% endif %}>{{ score }}</td>{% endif %}
        {% endfor %}
        <td>{{ r.n }}{% if r.cut %} <span class="same">+ {{ r.cut }} cut</span>{% endif %}
        {% if r.open %} <span class="same">+ {{ r.open }} open</span>{% endif %}</td>
        <td>{% if r.diverged %}{{ r.diverged }} of {{ r.row.runs|length }}<br>
        <span class="same">step {{ r.diverged_at or "unknown" }}</span>
        {%- else %}<span class="same">0</span>{% endif %}</td>
        <td>{{ r.row.seconds|number }}</td>
        <td>{{ r.row.relative_seconds|times }}</td>
        <td>{{ r.parameters }}</td>
      </tr>
    {% endfor %}
    </tbody>
  </table>
  </div>
  <ul class="notes">{% for note in notes %}<li>{{ note }}</li>{% endfor %}</ul>
</section>

{% if curve_svgs %}
<section>
  <h2>Learning curves</h2>
  <p>Every line is the mean over seeds, its band runs from the smallest to the largest. Point at a name to pick it
  out.</p>
  <ul class="legend">
  {% for k, norm, paint in norms %}
    <li data-n="{{ k }}" tabindex="0"><span class="dot" style="background:{{ paint }}"></span>{{ norm }}</li>
  {% endfor %}
  </ul>
  <figure><div class="panels">
  {% for svg in curve_svgs %}<div>{{ svg }}</div>{% endfor %}
  </div>
  <figcaption>Training loss is averaged over blocks of steps. Where a norm has batch statistics, validation uses those
  of the population, estimated before each validation. An axis is logarithmic where values span more than a factor of
  30.</figcaption></figure>
</section>
{% endif %}

{% if modes_svgs %}
<section>
  <h2>Training mode against evaluation mode</h2>
  <p>The same validation batches, normalized by population statistics (line), by running averages (dashes) and by their
  own statistics (dots). Where dashes and line part, the running averages are those of another network; where line and
  dots part, the network depends on the batch at hand.</p>
  <figure><div class="small">
  {% for norm, paint, moving, svg in modes_svgs %}
    <div><h3><span class="dot" style="background:{{ paint }}"></span>{{ norm }}</h3>{{ svg }}</div>
  {% endfor %}
  </div>
  <figcaption>Validation loss against the training step; all panels share their axes, grey lines are the other norms.
  For norms without batch statistics the two coincide.</figcaption></figure>
</section>
{% endif %}

{% if bucket_svgs %}
<section>
  <h2>Short and long</h2>
  <p>{{ bucket_score|capitalize }} where sequences are short or long, and early or late within a sequence.</p>
  <figure><div class="panels">
  {% for svg in bucket_svgs %}<div>{{ svg }}</div>{% endfor %}
  </div>
  <figcaption>Best checkpoint, by the statistics that each norm is ranked by; mean over seeds, band from the smallest to
  the largest.</figcaption></figure>
</section>
{% endif %}

<section>
  <h2>Run it again</h2>
  <pre><code>{{ command }}</code></pre>
  <p>The curves of every run, overlaid in TensorBoard:</p>
  <pre><code>{{ tensorboard }}</code></pre>
  {% if config %}
  <details><summary>compare.yaml, the resolved configuration</summary><pre><code>{{ config }}</code></pre></details>
  {% endif %}
</section>
</main>
<footer>Made by rnnnorm {{ version }}. One number per run: <code>results.csv</code>. The table:
<code>summary.md</code>. The picture: <code>figure.svg</code>, <code>figure.png</code>.</footer>
</body>
</html>
"""
)
