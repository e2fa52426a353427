// The style sheet of the report.
#pragma once

namespace wakesleep::command {

inline constexpr const char* report_style = R"css(
:root { color-scheme: light dark; --page: #f7f7f4; --card: #ffffff; --ink: #1f2328; --muted: #656c76;
        --rule: #e3e3dd; --estimate: #1c6ea8; --bound: #b8621b; --curve-2: #2f7d4f; --curve-3: #8d4a9e;
        --curve-4: #7a6a12; --curve-5: #b03a4b; }
@media (prefers-color-scheme: dark) {
  :root { --page: #14171a; --card: #1b1f23; --ink: #e6e6e1; --muted: #9aa2ab; --rule: #30363c;
          --estimate: #6db3e8; --bound: #eba15c; --curve-2: #6cc48d; --curve-3: #c99ad6; --curve-4: #c9b655;
          --curve-5: #ef8a97; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
       font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 80rem; margin: 0 auto; padding: 3rem 1rem 4rem; }
h1 { font-size: 1.9rem; font-weight: 600; letter-spacing: -0.01em; line-height: 1.2; margin: 0 0 1.5rem;
     overflow-wrap: anywhere; }
h1 small { display: block; font-size: 0.85rem; font-weight: 400; letter-spacing: 0.02em; color: var(--muted);
           margin-bottom: 0.3rem; }
h2 { font-size: 1.2rem; font-weight: 600; margin: 0 0 0.75rem; }
h3 { font-size: 1rem; font-weight: 600; margin: 0 0 0.75rem; }
p { margin: 0 0 0.75rem; }
section { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 1.5rem;
          margin-top: 1.5rem; }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(17rem, 100%), 1fr)); gap: 1rem 2rem; margin: 0; }
.facts dt { font-size: 0.85rem; color: var(--muted); }
.facts dd { margin: 0; font-size: 1.15rem; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.facts .wide { grid-column: 1 / -1; order: 1; }
.facts .wide dd { font-size: 1rem; }
.facts .code dd { font: 0.9rem/1.6 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); gap: 1rem 2rem; }
figure { margin: 0; }
svg { display: block; width: 100%; height: auto; }
svg text { font: 12.5px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; font-variant-numeric: tabular-nums; }
.tick, .title { fill: var(--muted); }
.end { text-anchor: end; }
.middle { text-anchor: middle; }
svg .last { font-weight: 600; }
.grid { stroke: var(--rule); stroke-width: 1; }
.axis { stroke: var(--muted); stroke-width: 1; }
path { fill: none; stroke-width: 2.2; stroke-linejoin: round; stroke-linecap: round; }
path.estimate { stroke: var(--estimate); }
path.bound { stroke: var(--bound); stroke-dasharray: 7 5; }
path.curve-0 { stroke: var(--estimate); }
path.curve-1 { stroke: var(--bound); stroke-dasharray: 7 5; }
path.curve-2 { stroke: var(--curve-2); stroke-dasharray: 2 4; }
path.curve-3 { stroke: var(--curve-3); stroke-dasharray: 11 4 2 4; }
path.curve-4 { stroke: var(--curve-4); stroke-dasharray: 14 4; }
path.curve-5 { stroke: var(--curve-5); stroke-dasharray: 5 3 2 3 2 3; }
circle { stroke: var(--card); stroke-width: 1; }
circle.estimate, text.estimate, circle.curve-0, text.curve-0 { fill: var(--estimate); }
circle.bound, text.bound, circle.curve-1, text.curve-1 { fill: var(--bound); }
circle.curve-2, text.curve-2 { fill: var(--curve-2); }
circle.curve-3, text.curve-3 { fill: var(--curve-3); }
circle.curve-4, text.curve-4 { fill: var(--curve-4); }
circle.curve-5, text.curve-5 { fill: var(--curve-5); }
.legend { display: flex; flex-wrap: wrap; gap: 0.3rem 1.75rem; font-size: 0.9rem; }
.key { display: inline-flex; align-items: center; gap: 0.6rem; }
.swatch { width: 28px; flex: none; }
table { border-collapse: collapse; font-size: 0.95rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 0.4rem 1.5rem 0.4rem 0; border-bottom: 1px solid var(--rule);
         vertical-align: baseline; }
th { font-weight: 500; color: var(--muted); }
tbody tr:last-child > * { border-bottom: 0; }
td.number, th.number { text-align: right; padding: 0.4rem 0 0.4rem 1.5rem; }
.total td { color: var(--muted); }
.settings td { overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
details { margin-top: 1rem; }
summary { cursor: pointer; color: var(--muted); font-size: 0.9rem; }
details .scroll { margin-top: 0.75rem; }
.pictures { display: flex; flex-wrap: wrap; gap: 2rem 1.5rem; }
.picture { max-width: 100%; }
.picture img { display: block; max-width: 100%; height: auto; image-rendering: pixelated; border-radius: 4px; }
figcaption, .note { color: var(--muted); font-size: 0.9rem; max-width: 36rem; }
figcaption { margin-top: 0.6rem; }
.note { margin: 1rem 0 0; }
)css";

}  // namespace wakesleep::command
