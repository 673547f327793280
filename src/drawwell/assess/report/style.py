"""The style of the report: light, dark and printed. Colours by Okabe and Ito, told apart by every kind of eye."""

from typing import Final

STYLE: Final = """
:root{color-scheme:light dark;
--page:#f6f7f9;--card:#fff;--ink:#1a1f27;--soft:#5b6472;--rule:#dfe3e9;--grid:#edf0f3;
--a:#0072b2;--b:#d55e00;--c:#8a6a00;--d:#00795a;--band:#0072b21f;--claim:#a8206b;--ceiling:#4b5563;
--good:#00795a;--note:#5b6472;--bad:#b3261e;--good-wash:#e6f4ef;--bad-wash:#fbeae9}
@media screen and (prefers-color-scheme:dark){:root{
--page:#11151b;--card:#191f27;--ink:#e8ecf1;--soft:#9aa6b5;--rule:#2c3542;--grid:#242c37;
--a:#5bb4ea;--b:#f0a04b;--c:#e3cf57;--d:#3fc79d;--band:#5bb4ea24;--claim:#f09aca;--ceiling:#b5bfcc;
--good:#3fc79d;--note:#9aa6b5;--bad:#ff8a80;--good-wash:#16312a;--bad-wash:#3a1f20}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI","Noto Sans","Liberation Sans","DejaVu Sans",sans-serif}
main{max-width:1168px;margin:0 auto;padding:40px 24px 64px}
h1{font-size:17px;font-weight:600;margin:0 0 2px;color:var(--soft);letter-spacing:.01em}
h2{font-size:21px;font-weight:650;margin:48px 0 14px;letter-spacing:-.005em}
h3{font-size:15.5px;font-weight:650;margin:0 0 2px}
p{margin:0 0 10px;max-width:74ch}
small,.soft{color:var(--soft)}
code,.hash{font:13px/1.5 ui-monospace,"DejaVu Sans Mono","Liberation Mono",monospace;overflow-wrap:anywhere}
.banner{background:var(--bad-wash);color:var(--bad);border:1px solid currentColor;border-radius:10px;
padding:10px 16px;font-weight:600;margin:0 0 20px}
.banner.plain{background:none;color:var(--claim)}
.top{display:grid;grid-template-columns:minmax(0,1.15fr) minmax(0,1fr);gap:40px;align-items:start}
.subject{font-size:30px;font-weight:680;line-height:1.2;margin:0 0 22px;letter-spacing:-.015em;overflow-wrap:anywhere}
.figure{display:flex;align-items:baseline;gap:12px}
.figure b{font-size:68px;font-weight:700;line-height:1;letter-spacing:-.03em;font-variant-numeric:tabular-nums}
.figure span{font-size:17px;color:var(--soft);line-height:1.35}
.gauge{margin:18px 0 6px}.gauge svg{margin:0}
dl.facts{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:5px 18px;margin:0;font-size:14.5px}
dl.facts dt{color:var(--soft)}dl.facts dd{margin:0;overflow-wrap:anywhere}
.findings{list-style:none;margin:0;padding:0;overflow:hidden;background:var(--card);border:1px solid var(--rule);
border-radius:12px}
.findings li{display:grid;grid-template-columns:26px 1fr;gap:10px;padding:11px 18px;border-top:1px solid var(--rule)}
.findings li:first-child{border-top:0}
.findings i{font-style:normal;font-weight:700;text-align:center}
.good i{color:var(--good)}.bad i{color:var(--bad)}.note i{color:var(--note)}
.findings .bad{background:var(--bad-wash)}
.cards{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:20px}
figure{margin:0;background:var(--card);border:1px solid var(--rule);border-radius:12px;padding:16px 20px 12px;
break-inside:avoid}
figure.whole{grid-column:1/-1}
figure p{font-size:14px;color:var(--soft);margin:0 0 12px;line-height:1.45}
svg{display:block;width:100%;height:auto;overflow:visible;margin:0 auto}
.bitmap{border:1px solid var(--rule);image-rendering:pixelated}
.bitmap path{fill:var(--ink)}
text{font-size:12px;fill:var(--soft)}
text.name{font-size:13px;fill:var(--ink)}
text.value{font-size:13px;fill:var(--ink);font-variant-numeric:tabular-nums}
text.flag{font-size:12.5px;font-weight:600;paint-order:stroke;stroke:var(--card);stroke-width:4px}
.gauge text.flag{stroke:var(--page)}
text.tick{font-variant-numeric:tabular-nums}
.axis{stroke:var(--soft);fill:none;stroke-width:1}.grid{stroke:var(--grid);fill:none}
.band{fill:var(--band)}.expect{stroke:var(--soft);stroke-width:1.2;fill:none;stroke-dasharray:5 4}
.curve{fill:none;stroke-width:1.5;stroke-linejoin:round}.thin{stroke-width:1;opacity:.65}
.curve.a,.stem.a{stroke:var(--a)}.curve.b,.stem.b{stroke:var(--b)}
.curve.c{stroke:var(--c)}.stem.c{stroke:var(--bad)}.curve.d,.stem.d{stroke:var(--d)}
.curve.b{stroke-dasharray:7 3}.curve.c{stroke-dasharray:2 3}.curve.d{stroke-dasharray:10 3 2 3}
.stem{stroke-width:1.4;fill:none}.mark.a{fill:var(--a)}.mark.b{fill:var(--b)}.mark.c{fill:var(--bad)}
.upright{fill:none;stroke-width:1.6}.upright.result{stroke:var(--ink)}
.upright.claim{stroke:var(--claim);stroke-dasharray:7 4}.upright.ceiling{stroke:var(--ceiling);stroke-dasharray:2 3}
.upright.solid{stroke-dasharray:none;stroke-width:2}.flag.result{fill:var(--ink)}.flag.claim{fill:var(--claim)}.flag.ceiling{fill:var(--ceiling)}
.halo{stroke:var(--page);stroke-width:5;fill:none}.track{fill:var(--grid)}.fill{fill:var(--a)}
.legend{display:flex;flex-wrap:wrap;gap:4px 22px;font-size:13.5px;color:var(--soft);margin:8px 0 4px}
.legend svg{width:30px;height:12px;display:inline-block;vertical-align:middle;margin:0 7px 0 0}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:14px;background:var(--card)}
th,td{text-align:left;padding:7px 14px;border-bottom:1px solid var(--rule);vertical-align:top}
th{font-weight:600;color:var(--soft);white-space:nowrap}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
tr:last-child td{border-bottom:0}
.sheet{border:1px solid var(--rule);border-radius:12px;overflow:hidden;background:var(--card);margin:0 0 18px}
.sheet h3{padding:13px 14px 9px}
footer{margin-top:48px;padding-top:18px;border-top:1px solid var(--rule);font-size:14px;color:var(--soft)}
@media screen and (max-width:860px){.top,.cards{grid-template-columns:minmax(0,1fr)}.top{gap:26px}
main{padding:24px 16px 48px}.figure b{font-size:54px}.whole .scroll svg{min-width:720px}}
@media print{@page{size:A4;margin:14mm}
:root{--page:#fff;--card:#fff;--good-wash:#fff;--bad-wash:#fff}
body{font-size:10.5pt}main{max-width:none;padding:0}
h2{margin-top:22px;break-after:avoid}.subject{font-size:20pt}.figure b{font-size:40pt}
.top{grid-template-columns:1.1fr 1fr;gap:20px}.cards{gap:10px}figure{padding:9px 12px}figure p{font-size:9pt}
figure text{font-size:15px}.scroll{overflow:visible}.figure span{font-size:11pt}
dl.facts,table{font-size:9pt}.hash{font-size:8pt}th,td{padding:4px 8px}.findings li{padding:5px 12px;font-size:9.5pt}
.sheet,.findings li,tr{break-inside:avoid}*{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
"""
