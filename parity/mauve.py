"""MAUVE on fixed features: an independent NumPy derivation.

From Pillutla et al., arXiv 2102.01454: section 4 (features scaled to unit length, principal
components up to 90 % of the variance), Eq. 1 (the divergence curve
(exp(-c KL(Q|R)), exp(-c KL(P|R))), R = w P + (1 - w) Q, c = 5) and Eq. 3 (area under it). Settings
of the authors' package: 25 weights between 1e-6 and 1 - 1e-6, end points (1, 0) and (0, 1), the
mean of the areas over both axes. Cluster labels are given, since k-means depends on its start.

Writes crates/demask-eval/tests/fixtures/mauve.json.
"""

import json
import pathlib

import numpy as np

rng = np.random.default_rng(20260101)
P = rng.normal(size=(30, 6)) * [2.0, 1.5, 1.0, 0.5, 0.2, 0.1]
Q = rng.normal(size=(40, 6)) * [2.0, 1.5, 1.0, 0.5, 0.2, 0.1] + [0.5, 0.0, 0.3, 0.0, 0.0, 0.0]
P, Q = P.astype(np.float32), Q.astype(np.float32)

# Unit length, centred, and the right singular vectors of largest singular value.
X = np.concatenate([P, Q]).astype(np.float64)
X /= np.sqrt((X**2).sum(axis=1, keepdims=True))
X -= X.mean(axis=0)
_, s, vt = np.linalg.svd(X, full_matrices=False)
share = np.cumsum(s**2) / np.sum(s**2)
kept = int(np.searchsorted(share, 0.9)) + 1
scores = X @ vt[:kept].T
# Signs of components are free: distances are not.
distances = ((scores[:10, None, :] - scores[None, :10, :]) ** 2).sum(-1)


def kl(a, b):
    terms = np.zeros_like(a)
    live = a > 0
    with np.errstate(divide="ignore"):
        terms[live] = a[live] * (np.log(a[live]) - np.log(b[live]))
    return float(terms.sum())


cases = []
for clusters, skew in [(4, 0.0), (7, 1.0), (5, 30.0)]:
    # The last case gives clusters that one set never visits.
    weights = np.exp(-skew * np.linspace(0, 1, clusters))
    p_labels = rng.choice(clusters, size=len(P), p=weights / weights.sum())
    q_labels = rng.choice(clusters, size=len(Q), p=weights[::-1] / weights.sum())
    p = np.array([(p_labels == k).mean() for k in range(clusters)])
    q = np.array([(q_labels == k).mean() for k in range(clusters)])
    curve = [[1.0, 0.0]]
    for w in np.linspace(1e-6, 1 - 1e-6, 25):
        r = w * p + (1 - w) * q
        curve.append([np.exp(-5 * kl(q, r)), np.exp(-5 * kl(p, r))])
    curve.append([0.0, 1.0])
    curve = np.array(curve)
    areas = []
    for axis in (0, 1):
        x, y = curve[:, axis], curve[:, 1 - axis]
        order = np.argsort(x, kind="stable")
        areas.append(float(np.sum(np.diff(x[order]) * (y[order][1:] + y[order][:-1]) / 2)))
    cases.append(
        {
            "clusters": clusters,
            "p_labels": p_labels.tolist(),
            "q_labels": q_labels.tolist(),
            "curve": curve.tolist(),
            "area": sum(areas) / 2,
        }
    )

out = pathlib.Path(__file__).parent.parent / "crates/demask-eval/tests/fixtures/mauve.json"
out.parent.mkdir(parents=True, exist_ok=True)
fixture = {
    "p": P.astype(float).tolist(),
    "q": Q.astype(float).tolist(),
    "kept": kept,
    "distances": distances.tolist(),
    "cases": cases,
}
out.write_text(json.dumps(fixture) + "\n")
