// The page's style sheet. Colours of the series: Okabe and Ito (2008), told apart with any colour vision;
// lightened on a dark background.
#pragma once

namespace deltacal::reports {

inline constexpr const char* style_sheet = R"css(
:root{color-scheme:light dark;--bg:#fff;--ink:#16191d;--soft:#59616b;--rule:#d7dce1;--grid:#e8ebee;--panel:#f5f7f9;
--delta:#c4500a;--sparse:#2f6fa8;--full:#9aa2ab;--good:#14763c;--bad:#b3261e;--on-role:#fff;
--s0:#0067a6;--s1:#c4500a;--s2:#007a5a;--s3:#a5568a;--s4:#8f6a00;--s5:#3b86b8}
@media screen and (prefers-color-scheme:dark){:root{--bg:#14171a;--ink:#e7eaed;--soft:#9fa8b2;--rule:#3a4148;
--grid:#2a3036;--panel:#1d2226;--delta:#f08a3c;--sparse:#6aaee0;--full:#6e7780;--good:#63c98a;--bad:#ff8a80;
--on-role:#14171a;--s0:#5ab4ec;--s1:#f08a3c;--s2:#3fc79c;--s3:#dd94c4;--s4:#e3bb4a;--s5:#9bd0f0}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0 auto;max-width:1100px;padding:28px 24px 60px;background:var(--bg);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
h1{font-size:27px;line-height:1.2;margin:0 0 4px;letter-spacing:-.01em}
h2{font-size:20px;margin:44px 0 4px;padding-top:14px;border-top:2px solid var(--ink)}
h3{font-size:15px;margin:0 0 8px}
h3 .label{color:var(--soft);font-weight:400;margin-right:.5em}
p{margin:4px 0 10px;max-width:75ch}
.subtitle,.intro{color:var(--soft)}
nav{margin:12px 0 0;display:flex;flex-wrap:wrap;gap:4px 18px;font-size:14px}
nav a{color:var(--s0)}
.grid{display:grid;grid-template-columns:repeat(6,minmax(0,1fr));gap:30px 26px;margin-top:18px;align-items:start}
figure{margin:0;min-width:0;grid-column:span 6}
figure.half{grid-column:span 3}
figure.third{grid-column:span 2}
figcaption{font-size:13px;line-height:1.45;color:var(--soft);margin-top:8px;max-width:100ch}
figcaption .n{color:var(--ink)}
.scroll{overflow-x:auto}
svg{display:block;max-width:100%;height:auto;font-size:11px}
svg text{fill:var(--soft)}
svg .axis,svg .name,svg .number{fill:var(--ink)}
svg .name{font-size:12.5px}
svg path{stroke:none}
svg .grid{stroke:var(--grid)}
svg .frame,svg .tick{stroke:var(--soft)}
svg .zero{stroke:var(--soft)}
svg .s0{--c:var(--s0)}svg .s1{--c:var(--s1)}svg .s2{--c:var(--s2)}svg .s3{--c:var(--s3)}svg .s4{--c:var(--s4)}svg .s5{--c:var(--s5)}
svg .mark{fill:var(--c);stroke:var(--bg);stroke-width:.8}
svg .point{fill:var(--c);fill-opacity:.4;stroke:var(--c);stroke-opacity:.7;stroke-width:.7}
svg .curve{fill:none;stroke:var(--c);stroke-width:1.6}
svg .band{fill:var(--c);fill-opacity:.2}
svg .whisker{fill:none;stroke:var(--c);stroke-width:1.6}
svg .limit{stroke:var(--bad);stroke-dasharray:4 3}
svg .limit-name{fill:var(--bad)}
svg .delta-line{stroke:var(--delta);stroke-dasharray:2 3;stroke-opacity:.8}
svg .delta-mark{fill:var(--delta)}
svg .cells{shape-rendering:crispEdges}
svg .outline{fill:none;stroke:#fff;stroke-width:1.4}svg .outline-back{fill:none;stroke:#000;stroke-width:3}
svg .undefined{fill:url(#hatch);stroke:var(--rule);stroke-width:.5}
svg .role-full{fill:var(--full)}svg .role-delta{fill:var(--delta)}svg .role-sparse{fill:var(--sparse)}
svg .role-letter{fill:var(--on-role);font-weight:600}
svg .bar{fill:var(--sparse);fill-opacity:.55}
svg .bracket{fill:none;stroke:var(--delta);stroke-width:1.4}
table{border-collapse:collapse;font-size:13.5px;font-variant-numeric:tabular-nums;min-width:40%}
th,td{text-align:left;vertical-align:top;padding:5px 14px 5px 0;border-bottom:1px solid var(--rule)}
th{font-weight:600;vertical-align:bottom;border-bottom:1.5px solid var(--ink);border-top:1.5px solid var(--ink)}
th .unit{display:block;font-weight:400;color:var(--soft);font-size:12px}
th.num{text-align:right}
td.num{text-align:right;white-space:nowrap}
td .ci{color:var(--soft);font-size:12px}
.dense .ci{display:block}.dense th,.dense td{padding-right:11px}
td{overflow-wrap:anywhere}
td.short{white-space:nowrap}
.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(205px,1fr));gap:12px}
.fact{background:var(--panel);border-left:3px solid var(--rule);padding:10px 14px}
.fact.good{border-color:var(--good)}.fact.bad{border-color:var(--bad)}
.fact .what{font-size:13px;color:var(--soft)}
.fact .value{font-size:22px;line-height:1.25;font-weight:600;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
.fact .long{font-size:16px}
.fact.good .value{color:var(--good)}.fact.bad .value{color:var(--bad)}
.fact .detail{font-size:12.5px;line-height:1.4;color:var(--soft)}
@media screen and (max-width:820px){body{padding:18px 14px 40px}figure.half,figure.third{grid-column:span 6}
.scroll svg{max-width:none}.fits svg{max-width:100%}.half .scroll svg{min-width:440px}.facts{grid-template-columns:repeat(auto-fill,minmax(150px,1fr))}}
@media print{body{max-width:none;padding:0;font-size:10.5pt}nav{display:none}figure{break-inside:avoid}
h2,h3{break-after:avoid}.scroll{overflow:visible}svg,.fact{print-color-adjust:exact;-webkit-print-color-adjust:exact}
table{font-size:8.5pt}th,td{padding-right:8px}}
)css";

}  // namespace deltacal::reports
