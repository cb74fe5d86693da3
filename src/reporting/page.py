"""The look of report.html: a Jinja template with its style; no script, nothing from outside."""

TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>{{ title }}: report</title>
<style>
{{ style|safe }}
</style>
</head>
<body>
<a class="skip" href="#main">Skip to the scores</a>
<header>
<p class="kicker">Out-of-fold report</p>
<h1>{{ title }}</h1>
<p class="subtitle">{{ subtitle }}</p>
<dl class="tiles">
{% for name, value, note in tiles %}
<div><dt>{{ name }}</dt><dd>{{ value }}</dd>
{% if note %}
<dd class="small">{{ note }}</dd>
{% endif %}
</div>
{% endfor %}
</dl>
<nav aria-label="Sections">
{% for section in sections %}<a href="#{{ section.key }}">{{ section.title }}</a>
{% endfor %}
</nav>
</header>
<main id="main">
{% for section in sections %}
<section id="{{ section.key }}" aria-labelledby="h-{{ section.key }}"\
{% if section.half %} class="half"{% endif %}>
<h2 id="h-{{ section.key }}">{{ section.title }}</h2>
{% for text in section.lead %}
<p class="lead">{{ text }}</p>
{% endfor %}
{% for text in section.notes %}
<p class="note">{{ text }}</p>
{% endfor %}
<div class="blocks">
{% for block in section.blocks %}
{% if block.kind == "figure" %}
<figure>
<figcaption>{{ block.title }}</figcaption>
{{ block.svg|safe }}
{% if block.legend %}
<ul class="legend">
{% for colour, name in block.legend %}
<li><i class="c{{ colour % 8 }}"></i>{{ name }}</li>
{% endfor %}
</ul>
{% endif %}
{% if block.note %}
<p class="small">{{ block.note }}</p>
{% endif %}
</figure>
{% elif block.kind == "table" %}
{% if block.closed %}
<details>
<summary>{{ block.caption }}</summary>
{% endif %}
<div class="scroll" role="region" aria-label="{{ block.caption }}" tabindex="0">
<table>
<caption>{{ block.caption }}</caption>
<thead><tr>
{% for name in block.columns %}
<th scope="col"{% if block.rows and block.rows[0][loop.index0].text %} class="text"\
{% endif %}>{{ name }}</th>
{% endfor %}
</tr></thead>
<tbody>
{% for row in block.rows %}
<tr{% if loop.revindex <= block.foot %} class="foot"{% endif %}>
{% for cell in row %}
{% if loop.first %}
<th scope="row"{% if cell.mark %} class="mark"{% endif %}>{{ cell.value }}</th>
{% elif cell.shade is not none %}
<td class="heat{% if cell.shade > 0.55 %} full{% endif %}" \
style="--s:{{ (100 * cell.shade)|round(1) }}%">{{ cell.value }}</td>
{% else %}
<td{% if cell.mark or cell.text %} class="{{ "mark" if cell.mark }} \
{{ "text" if cell.text }}"{% endif %}>{{ cell.value }}</td>
{% endif %}
{% endfor %}
</tr>
{% endfor %}
</tbody>
</table>
</div>
{% if block.closed %}
</details>
{% endif %}
{% else %}
<div class="gallery">
<h3>{{ block.title }}</h3>
{% if block.legend %}
<ul class="legend">
{% for colour, name in block.legend %}
<li><i style="--c:{{ colour }}"></i>{{ name }}</li>
{% endfor %}
</ul>
{% endif %}
<ol class="cards{% if block.wide %} wide{% endif %}">
{% for card in block.cards %}
<li><figure class="card">
<img src="{{ card.source }}" alt="{{ card.alt }}" width="{{ card.size[0] }}" \
height="{{ card.size[1] }}">
<figcaption><b>{{ card.score }}</b> <span>{{ card.caption }}</span></figcaption>
</figure></li>
{% endfor %}
</ol>
</div>
{% endif %}
{% endfor %}
</div>
</section>
{% endfor %}
</main>
<footer>{{ footer }}</footer>
<script type="application/json" id="figures">{{ figures|safe }}</script>
</body>
</html>
"""

# Series colours are Okabe and Ito's, made darker on white and lighter on black.
STYLE = """
:root{color-scheme:light dark;--paper:#fbfbf9;--card:#fff;--ink:#1b1f24;--soft:#565d66;
--line:#dcdfe3;--accent:#0a6cb0;--heat:#0a6cb0;--note:#fff4d6;--noteline:#b98900;
--s0:#0a6cb0;--s1:#c2570c;--s2:#0d8563;--s3:#b0468b;--s4:#8a6d00;--s5:#2a8fc4;--s6:#555d66;
--s7:#7a4bc2}
@media(prefers-color-scheme:dark){:root{--paper:#14171b;--card:#1c2026;--ink:#e8eaed;
--soft:#a6adb6;--line:#353b44;--accent:#6db7ee;--heat:#2f7fbd;--note:#33290c;--noteline:#d6a93a;
--s0:#5cb1ee;--s1:#f0924f;--s2:#3cc79c;--s3:#e48cc2;--s4:#e0c24a;--s5:#9bd5f5;--s6:#b3bac2;
--s7:#b79af0}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;scroll-behavior:smooth}
@media(prefers-reduced-motion:reduce){html{scroll-behavior:auto}}
body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;overflow-wrap:anywhere}
header,main,footer{max-width:1240px;margin:0 auto;padding:0 clamp(16px,4vw,40px)}
header{padding-top:36px}
h1{font-size:clamp(1.7rem,5vw,2.5rem);line-height:1.15;margin:0;letter-spacing:-.02em}
h2{font-size:1.35rem;margin:0 0 8px;letter-spacing:-.01em}
h3{font-size:1.05rem;margin:0 0 8px}
.kicker{margin:0;color:var(--soft);font-size:.8rem;letter-spacing:.08em;text-transform:uppercase}
.subtitle,.lead,.small,footer{color:var(--soft)}
.subtitle{margin:6px 0 20px}
.lead{margin:0 0 8px;max-width:75ch}
.small{font-size:.85rem;margin:6px 0 0}
.skip{position:absolute;left:-999px}.skip:focus{left:8px;top:8px;background:var(--card);padding:8px}
a{color:var(--accent)}
:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:0}
.tiles div{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:12px 16px}
.tiles dt{color:var(--soft);font-size:.85rem}
.tiles dd{margin:0;font-size:1.6rem;font-weight:650;font-variant-numeric:tabular-nums;
line-height:1.25}
.tiles dd.small{font-size:.82rem;font-weight:400}
nav{display:flex;flex-wrap:wrap;gap:4px 16px;margin:20px 0 0;padding:10px 0;
border-block:1px solid var(--line);font-size:.92rem}
nav a{text-decoration:none;padding:3px 0}nav a:hover{text-decoration:underline}
section{padding:32px 0 8px;scroll-margin-top:8px;min-width:0}
@media(min-width:900px){main{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:0 32px}
section{grid-column:1/-1}section.half{grid-column:auto}.half .blocks{grid-template-columns:1fr}
.half figure{max-width:480px}}
summary{cursor:pointer;padding:8px 0;color:var(--accent)}
.blocks{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,340px),1fr));gap:16px;
align-items:start;margin-top:12px}
.blocks>.scroll,.blocks>details,.blocks>.gallery{grid-column:1/-1}
figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:10px;
padding:14px 14px 10px;min-width:0}
figure>figcaption{font-weight:600;margin-bottom:6px}
.note{background:var(--note);border-left:4px solid var(--noteline);padding:8px 12px;margin:8px 0;
border-radius:4px;max-width:85ch}
.scroll{overflow-x:auto;background:var(--card);border:1px solid var(--line);border-radius:10px;
max-width:100%;width:fit-content;min-width:0}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.9rem}
caption{text-align:left;font-weight:600;padding:12px 14px 6px;white-space:nowrap}
th,td{padding:6px 14px;text-align:right;white-space:nowrap;border-top:1px solid var(--line)}
thead th{color:var(--soft);font-weight:600;border-top:0}
tbody th,thead th:first-child{text-align:left;font-weight:500}
thead th.text{text-align:left}
td.text{text-align:left;white-space:normal;min-width:170px;max-width:520px}
tr.foot th,tr.foot td{font-weight:650}
th.mark,td.mark{color:var(--accent);font-weight:650}
td.heat{background:color-mix(in srgb,var(--heat) var(--s),transparent)}
td.heat.full{color:#fff}
svg{display:block;width:100%;height:auto}
svg text{font-size:12.5px;fill:var(--soft)}
svg .end{text-anchor:end}svg .middle{text-anchor:middle}svg .strong{fill:var(--ink);font-weight:600}
svg path{fill:none}
.grid{stroke:var(--line)}
.mark{stroke:var(--ink);stroke-dasharray:4 3}.mean{stroke:var(--ink);stroke-width:3}
.line{stroke:var(--c);stroke-width:2.2;stroke-linejoin:round;stroke-linecap:round}
.line.faint{stroke-width:1.3;opacity:.55}
.dots{stroke:var(--c);stroke-width:7;stroke-linecap:round}
.dots.faint{stroke-width:5.5;opacity:.5}
.c0{--c:var(--s0)}.c1{--c:var(--s1)}.c2{--c:var(--s2)}.c3{--c:var(--s3)}.c4{--c:var(--s4)}
.c5{--c:var(--s5)}.c6{--c:var(--s6)}.c7{--c:var(--s7)}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:4px 16px;margin:6px 0;padding:0;
font-size:.88rem}
.legend i{display:inline-block;width:14px;height:14px;border-radius:3px;background:var(--c);
margin-right:6px;vertical-align:-2px}
.cards{list-style:none;margin:0;padding:0;display:grid;gap:12px;
grid-template-columns:repeat(auto-fill,minmax(min(100%,250px),1fr))}
.cards.wide{grid-template-columns:repeat(auto-fill,minmax(min(100%,360px),1fr))}
.card{padding:0;overflow:hidden;max-width:none}
.card img{display:block;width:100%;height:auto}
.card figcaption{padding:6px 10px;margin:0;font-weight:400;font-size:.85rem;display:flex;gap:8px}
.card b{flex:none;font-variant-numeric:tabular-nums}
.card span{color:var(--soft)}
footer{padding-block:32px 48px;font-size:.85rem}
@media print{nav,.skip{display:none}section{break-inside:avoid-page}}
"""
