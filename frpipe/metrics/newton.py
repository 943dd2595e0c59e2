"""Newton's steps to the line, or plane, of logistic regression."""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from frpipe.metrics.scores import Doubles

_STEPS = 200
_HALVINGS = 60
_CONVERGED = 1e-14


def newton(x: Doubles, truth: Doubles, weight: Doubles, shift: float) -> Doubles:
    """Minimise sum weight (log(1 + e^z) - truth z): (k + 1,) slopes and offset.

    x: (n,) or (k, n), of about unit size.  truth, weight: (n,).  shift: added to each z.
    """
    design = np.vstack([x, np.ones(len(truth))])
    found = np.zeros(len(design))
    loss = _loss(found @ design + shift, truth, weight)
    for _ in range(_STEPS):
        p = expit(found @ design + shift)
        gradient = design @ (weight * (p - truth))
        curvature = (design * (weight * p * (1 - p))) @ design.T
        step = np.linalg.lstsq(curvature, gradient, rcond=None)[0]
        falls = float(gradient @ step)
        if falls < _CONVERGED:
            break
        for _ in range(_HALVINGS):
            tried = _loss((found - step) @ design + shift, truth, weight)
            if tried <= loss - 1e-4 * falls:
                break
            step, falls = step / 2, falls / 2
        else:
            break
        found, loss = found - step, tried
    return found


def _loss(z: Doubles, truth: Doubles, weight: Doubles) -> float:
    # log(1 + e^z) - truth z, in pieces that NumPy computes fast.
    return float(np.dot(weight, np.maximum(z, 0) + np.log(1 + np.exp(-np.abs(z))) - truth * z))
