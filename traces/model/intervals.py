"""Intervals and distributions of what evaluate.py measures: bootstrap over blocks of tokens, Wilson for shares."""
import math

import numpy as np

RESAMPLES = 10000

# name: unit, which way is better, description, as the database wants them
METRICS = {
    "nll": ("nats", "lower", "Negative log-likelihood of a token of the text under the model, a value a token"),
    "perplexity": ("1", "lower", "exp of the mean nll of the scored tokens"),
    "perplexity_ci95_low": ("1", "none", "Lower end of the 95% interval of perplexity: bootstrap over blocks of tokens"),
    "perplexity_ci95_high": ("1", "none", "Upper end of the 95% interval of perplexity: bootstrap over blocks of tokens"),
    "perplexity_ratio": ("ratio", "lower", "Perplexity over that of dense attention on the same tokens"),
    "perplexity_ratio_ci95_low": ("ratio", "none", "Lower end of the 95% interval of perplexity_ratio: paired bootstrap"),
    "perplexity_ratio_ci95_high": ("ratio", "none", "Upper end of the 95% interval of perplexity_ratio: paired bootstrap"),
    "passkey_accuracy": ("ratio", "higher", "Share of passkeys answered in every digit; read the mean"),
    "passkey_accuracy_ci95_low": ("ratio", "none", "Lower end of Wilson's 95% interval of passkey_accuracy"),
    "passkey_accuracy_ci95_high": ("ratio", "none", "Upper end of Wilson's 95% interval of passkey_accuracy"),
}


def wilson(n_right, n, z=1.959964):
    """95% interval of a share of n_right in n."""
    p, w = n_right / n, z * z / n
    half = z / (1 + w) * math.sqrt(p * (1 - p) / n + w / (4 * n))
    middle = (p + w / 2) / (1 + w)
    return middle - half if n_right > 0 else 0.0, middle + half if n_right < n else 1.0


def bootstrap_means(blocks_by_text, n_resamples, seed):
    """Means over resampled blocks, [n_resamples]: each text gives as many of its blocks (numbers) as it has."""
    rng = np.random.default_rng(seed)
    total = np.zeros(n_resamples)
    for blocks in blocks_by_text:
        blocks = np.asarray(blocks)
        total += blocks[rng.integers(0, len(blocks), (n_resamples, len(blocks)))].sum(1)
    return total / sum(map(len, blocks_by_text))


def perplexity_metrics(nll, dense_nll, n_resamples, seed):
    """nll, dense_nll: a list of texts of [n_blocks, n_tokens]. The same seed resamples the same blocks everywhere."""
    tokens = np.concatenate([t.ravel() for t in nll])
    means = bootstrap_means([t.mean(1) for t in nll], n_resamples, seed)
    gains = bootstrap_means([(t - d).mean(1) for t, d in zip(nll, dense_nll)], n_resamples, seed)
    dense_mean = np.concatenate([t.ravel() for t in dense_nll]).mean()
    values = {"nll": tokens, "perplexity": math.exp(tokens.mean()), "perplexity_ratio": math.exp(tokens.mean() - dense_mean)}
    for name, resampled in (("perplexity", means), ("perplexity_ratio", gains)):
        low, high = np.exp(np.quantile(resampled, [0.025, 0.975]))
        values |= {f"{name}_ci95_low": low, f"{name}_ci95_high": high}
    return values


def passkey_metrics(right):
    low, high = wilson(sum(right), len(right))
    return {"passkey_accuracy": np.array(right, float), "passkey_accuracy_ci95_low": low, "passkey_accuracy_ci95_high": high}
