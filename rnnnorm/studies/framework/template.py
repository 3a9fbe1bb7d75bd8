"""The page's HTML and what its style adds to that of a comparison."""

from __future__ import annotations

from rnnnorm.report.template import STYLE

OWN = """
:root { --yes: #0b7a5b; --no: #b8391f; --mixed: #7a6200; }
@media (prefers-color-scheme: dark) { :root { --yes: #58c9a3; --no: #ff8b6e; --mixed: #d9bd4b; } }
.tally { display: flex; gap: 1.6rem; flex-wrap: wrap; margin: 1.6rem 0 0; padding: 0; list-style: none; }
.tally b { font-size: 1.9rem; font-weight: 620; display: block; line-height: 1.1; }
.supported { color: var(--yes); } .contradicted { color: var(--no); } .depends { color: var(--mixed); }
.verdict { font-weight: 620; white-space: nowrap; }
table.claims td, table.claims th { text-align: left; white-space: normal; }
table.claims td.verdict { white-space: nowrap; }
table.claims td:first-child { display: table-cell; min-width: 18rem; max-width: 34rem; }
table.claims td:first-child a { text-decoration: none; }
table.claims td:first-child a:hover { text-decoration: underline; }
table.claims small { display: block; color: var(--muted); font-size: .82rem; line-height: 1.4; }
table.claims tr.study th { padding-top: 1.3rem; color: var(--ink); font-weight: 620; font-size: .95rem; }
.value { font-variant-numeric: tabular-nums; white-space: nowrap; }
article { border-top: 1px solid var(--grid); margin-top: 4.5rem; }
article h2 { margin-top: 2.2rem; font-size: clamp(1.4rem, 3vw, 1.9rem); }
article h3 { font-size: 1rem; font-weight: 620; margin: 2.4rem 0 .3rem; }
.panels { margin-top: 1.4rem; align-items: start;
          grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); }
.key { display: flex; flex-wrap: wrap; gap: .15rem 1.1rem; list-style: none; margin: .5rem 0 0; padding: 0;
       font-size: .85rem; }
.key li { display: flex; align-items: center; gap: .45em; }
.key svg { width: 1.7rem; flex: none; }
details { margin: .8rem 0 0; } details > summary { padding: .2rem 0; }
table.cases { width: auto; } table.cases td, table.cases th { padding: .3rem 1.4rem .3rem 0; text-align: left; }
table.cases td:first-child { display: table-cell; min-width: 0; }
.strip { width: 12.5rem; height: 1.1rem; display: inline-block; vertical-align: middle; }
.strip .range { stroke: currentColor; stroke-width: 2; } .strip circle { fill: currentColor; }
.strip .limit { stroke: var(--muted); stroke-dasharray: 3 2; }
.strip.holds, td.holds { color: var(--yes); } .strip.fails, td.fails { color: var(--no); }
.strip.open, td.open { color: var(--muted); }
@media (max-width: 46rem) {
  table.claims thead { display: none; }
  table.claims, table.claims :is(tbody, tr, td, th) { display: block; padding: 0; border: 0; }
  table.claims td:first-child { display: block; min-width: 0; }
  table.claims tr { padding: .8rem 0; border-bottom: 1px solid var(--grid); }
  table.claims tr.study { border: 0; padding: 1.2rem 0 0; }
  table.claims td { display: inline-block; margin-right: 1rem; white-space: normal; }
  table.claims td:last-child::before { content: "n = "; color: var(--muted); }
  .value { white-space: normal; }
  .strip { width: 7rem; }
}
"""

PAGE = (
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="rnnnorm {{ version }}">
<title>Where does normalization break down?</title>
<style>"""
    + STYLE
    + OWN
    + """</style>
</head>
<body>
{% macro key(entries) %}
  {% if entries %}
  <ul class="key">
  {% for e in entries %}
    <li>{% if e.glyph %}<span aria-hidden="true" style="color:{{ e.paint }}">{{ e.glyph }}</span>{% else %}
    <svg viewBox="0 0 28 10" aria-hidden="true"><line x1="0" x2="28" y1="5" y2="5" stroke="{{ e.paint }}"
    stroke-width="2.4"{% if e.dash %} stroke-dasharray="{{ e.dash }}"{% endif %}/></svg>{% endif %}
    {{ e.label }}</li>
  {% endfor %}
  </ul>
  {% endif %}
{% endmacro %}
<header>
  <h1>Where does normalization break down, vertically and horizontally?</h1>
  <p>What papers and textbooks say about normalizing recurrent networks, and what came out when it was measured.</p>
  <ul class="tally">
  {% for verdict, mark in marks.items() %}
    <li class="{{ verdict }}"><b>{{ counts[verdict] }}</b>{{ mark }} {{ verdict }}</li>
  {% endfor %}
  </ul>
</header>

<main>
<section>
  <h2>Claims</h2>
  <p>A claim is supported where its effect has the claimed side of the threshold in every condition measured, with the
  whole 95 % confidence interval over seeds; contradicted where it has the other side in every one; else it depends, and
  the study says on what. Below the verdict: in how many conditions it holds (✓), fails (✗), or the seeds do not decide
  (?). Sizes are those of the condition named below them.</p>
  <table class="claims">
    <thead><tr><th scope="col">claim</th><th scope="col">verdict</th><th scope="col">size, 95 % interval</th>
    <th scope="col">seeds</th></tr></thead>
    <tbody>
    {% for s in sections %}
      <tr class="study"><th colspan="4" scope="rowgroup"><a href="#{{ s.study.name }}">{{ s.study.question }}</a></th>
      </tr>
      {% for v in s.content.verdicts %}
      <tr>
        <td><a href="#{{ s.study.name }}-{{ v.key }}">{{ v.claim|code }}</a><small>{{ v.source }}</small></td>
        <td class="verdict {{ v.verdict }}">{{ marks[v.verdict] }} {{ v.verdict }}
        <small>{{ v.conditions|tally }}</small></td>
        <td><span class="value">{{ v.effect|effect }} {{ v.interval|interval }}</span>
        <small>{{ v.unit }}; {{ v.condition|code }}</small></td>
        <td>{{ v.n }}</td>
      </tr>
      {% endfor %}
    {% endfor %}
    </tbody>
  </table>
</section>

{% for s in sections %}
<article id="{{ s.study.name }}">
  <h2>{{ s.study.question }}</h2>
  {% for sentence in s.content.findings %}
  <p{% if loop.first %} class="lede"{% endif %}>{{ sentence|code }}</p>
  {% endfor %}
  <figure>
  <div class="panels">
  {% for panel in s.panels %}
    <div>{{ markup(panel.svg) }}{{ key(panel.legend) }}</div>
  {% endfor %}
  </div>
  {{ key(s.legend) }}
  <figcaption>Lines are means over seeds, bands run from the smallest to the largest seed.</figcaption>
  </figure>
  <h3>Verdicts</h3>
  {% for v in s.content.verdicts %}
  <details id="{{ s.study.name }}-{{ v.key }}"{% if v.conditions|length <= 4 %} open{% endif %}>
    <summary><span class="verdict {{ v.verdict }}">{{ marks[v.verdict] }} {{ v.verdict }}</span>
    {{ v.claim|code }}</summary>
    <p>{{ v.says|code }}</p>
    <div class="scroll" tabindex="0" role="region" aria-label="Effects by condition">
    <table class="cases">
      <thead><tr><th scope="col">condition</th><th scope="col">{{ v.unit }}</th><th></th>
      <th scope="col">needed</th><th scope="col">seeds</th><th scope="col">claim</th></tr></thead>
      <tbody>
      {% set drawings = strip(v.conditions) %}
      {% for c in v.conditions %}
        <tr><td>{{ c.condition|code }}</td>
        <td class="value">{{ c.effect|effect }} {{ c.interval|interval }}</td><td>{{ drawings[loop.index0] }}</td>
        <td>{{ c.needed }}</td><td>{{ c.n }}</td><td class="{{ c.standing }}">{{ standings[c.standing] }}</td></tr>
      {% endfor %}
      </tbody>
    </table>
    </div>
    <p><small>Source: {{ v.source }}.{% if v.published %} Published: {{ v.published }}.{% endif %}</small></p>
  </details>
  {% endfor %}
  <h3>What was measured</h3>
  <p>{{ s.study.method|code }}</p>
  <p>{{ s.content.measured }} of {{ s.content.trials }} trials, {{ s.content.scale }} configuration.
  All numbers: <code>{{ s.study.name }}/measurements.csv</code>; verdicts:
  <code>{{ s.study.name }}/verdict.json</code>.</p>
  <h3>Run it again</h3>
  <pre><code>{{ s.content.command or "rnnnorm study " ~ s.study.name }}</code></pre>
  {% if s.settings %}
  <details><summary>study.yaml, the resolved configuration</summary><pre><code>{{ s.settings }}</code></pre></details>
  {% endif %}
</article>
{% endfor %}
</main>
<footer>Made by rnnnorm {{ version }}
{% if sections %}on {{ sections[0].content.machine }}; {% endif %}
{{ "%.0f"|format(seconds / 60) }} minutes of training.
Curves of every trial: <code>{{ tensorboard }}</code></footer>
</body>
</html>
"""
)
