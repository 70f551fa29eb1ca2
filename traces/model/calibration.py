"""What `adamas calibrate` wrote (core/calibrate/calibration_file.h), as a policy whose settings differ by layer."""
import json

from bad_input import BadInput

FORMAT = "adamas-calibration/1"


def fnv(data, value=2166136261):
    for byte in data:
        value = (value ^ byte) * 16777619 % 2**32
    return value


class Calibration(str):
    """Stands for a policy in lists and keys; at(layer) is the policy of one layer, as `adamas replay --policies` has it."""

    def __new__(cls, path):
        self = super().__new__(cls, f"adamas:calibration={path}")
        self.path = path
        try:
            with open(path, encoding="utf-8") as file:
                self._document = json.load(file)
        except (OSError, ValueError) as e:
            raise BadInput(f"{path}: no calibration: {e}") from e
        found = self._document.get("format") if isinstance(self._document, dict) else None
        if found != FORMAT:
            raise BadInput(f"{path}: no calibration: its \"format\" is {found!r}, not {FORMAT}")
        try:
            self._other = self._coding(self._document["default"])
            if not isinstance(self._document["layers"], list):
                raise TypeError("\"layers\" is no list")
            self._layers = {layer["layer"]: self._coding(layer) for layer in self._document["layers"]}
            self.shape = tuple(self._document["shape"][name] for name in ("n_q_heads", "n_kv_heads", "head_dim"))
        except (KeyError, TypeError) as e:
            raise BadInput(f"{path}: no calibration: {type(e).__name__}: {e}") from e
        self.weights_sha256 = self._document.get("weights_sha256", "")
        return self

    @staticmethod
    def _coding(coding):
        return str(coding["metric"]), str(coding["thresholds"])

    def at(self, layer):
        return "adamas:metric={},thresholds={}".format(*self._layers.get(layer, self._other))

    def policies(self):
        """Every policy in it."""
        return [self.at(layer) for layer in (-1, *self._layers)]

    @property
    def variant(self):
        """The name in the database, as core/policy/calibration.c makes it."""
        texts, order = [*self._other], ["l1", "xor", "l2", "sign", "dot", "asymmetric", "asym4"]
        for layer, coding in sorted(self._layers.items()):
            texts += [str(layer), *coding]
        value = fnv(b"".join(text.encode() + b"\0" for text in texts))
        codings = set(self._layers.values()) or {self._other}
        metrics = sorted({metric for metric, _ in codings}, key=order.index)
        return f"{' '.join(*codings) if len(codings) == 1 else '+'.join(metrics)}, calibration {value:08x}"

    def check(self, m, sha256):
        """BadInput unless it was made for this model: the shape of its layers and, where the file says, its weights."""
        if self.shape != (m.n_q_heads, m.n_kv_heads, m.d):
            raise BadInput(f"{self.path}: made for layers of {self.shape} query heads, KV heads and dimensions; {m.name} has "
                           f"{(m.n_q_heads, m.n_kv_heads, m.d)}")
        if self.weights_sha256 not in ("", sha256):
            raise BadInput(f"{self.path}: made for weights with SHA-256 {self.weights_sha256[:16]}..., not {sha256[:16]}...: "
                           "calibrate on a trace of this model")


def policy_at(policy, layer):
    """The policy of one layer."""
    return policy.at(layer) if isinstance(policy, Calibration) else policy
