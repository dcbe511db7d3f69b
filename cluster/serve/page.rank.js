"use strict";
// The arithmetic of a ranking, for what the server has sent: sliders show at once what they do.

// f(S) of Yu et al. 2017, equation 3.
function mapped(s, t, p) {
  return s > t && t < 1 ? t + (1 - t) * ((s - t) / (1 - t)) ** p : s;
}

// Results as another fusion ranks them; ties are in the order of the server, which is that of ids.
function reranked(results, spec) {
  const scored = results.map((hit, place) => {
    const values = {};
    let score = 0;
    for (const { layer, t, p, weight } of spec) {
      const f = mapped(hit.similarities[layer], t, p);
      values[layer] = f;
      score += weight * f;
    }
    return { ...hit, mapped: values, score, place };
  });
  scored.sort((a, b) => b.score - a.score || a.place - b.place);
  return scored.map((hit, place) => ({ ...hit, rank: place + 1 }));
}

// The line of f from 0 to 1, as a path in a box of 92 x 46.
function curve(t, p) {
  const points = [];
  for (let n = 0; n <= 60; n += 1) {
    const s = n / 60;
    points.push(`${(2 + 88 * s).toFixed(1)} ${(44 - 42 * mapped(s, t, p)).toFixed(1)}`);
  }
  return `M${points.join("L")}`;
}
