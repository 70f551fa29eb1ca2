"""The RoPE of a Hugging Face folder: config.json's settings as rope.Rope. What is not named here is refused."""
from bad_input import BadInput
from rope import LongRope, Rope, llama3_divisors, longrope_amplitude, yarn, yarn_amplitude

YARN = ("llama", "mistral", "qwen2", "qwen3")  # architectures it is tested with


class Settings:
    """A dictionary of RoPE's settings, taken one by one."""

    def __init__(self, c, values):
        self._c, self._values = c, dict(values)
        self.kind = self._values.pop("rope_type", None) or self._values.pop("type", None) or "default"
        self._values.pop("type", None)  # what older files call it
        if self.kind in ("su", "yarn") and c.arch == "phi3":  # early names of it
            self.kind = "longrope"

    def take(self, name, *default):
        value = self._values.pop(name, None)
        if value is None and not default:
            raise BadInput(f"{self._c.folder}: config.json: RoPE of type {self.kind!r} lacks a setting: {name!r}")
        return default[0] if value is None else value

    def number(self, name, *default):
        value = self.take(name, *default)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise BadInput(f"{self._c.folder}: config.json: RoPE setting {name} is {value!r}; a number is needed")
        return value

    def original_context(self):
        """transformers lets the setting outside the dictionary win."""
        inside = self.number("original_max_position_embeddings", None)
        outside = self._c.number("original_max_position_embeddings", *([4096] if self._c.arch == "phi3" else [0]))
        return outside or inside or self._c.number("max_position_embeddings")

    def factor(self, original):
        return self.number("factor", None) or self._c.number("max_position_embeddings") / original

    def refuse_left_over(self):
        for name, value in self._values.items():
            if value is not None:
                raise BadInput(f"{self._c.folder}: config.json: RoPE setting {name} = {value!r} is not supported")


def yarn_of(s, rope):
    """(Rope, tokens that it stretches the model to)"""
    original = s.original_context()
    factor, amplitude = s.factor(original), s.number("attention_factor", None)
    weights = s.number("mscale", None), s.number("mscale_all_dim", None)
    if amplitude is None and all(weights):
        amplitude = yarn_amplitude(factor, weights[0]) / yarn_amplitude(factor, weights[1])
    return yarn(rope, factor, original, s.number("beta_fast", None) or 32, s.number("beta_slow", None) or 1, amplitude,
                s.take("truncate", True)), int(factor * original)


def longrope_of(s, rope):
    """(Rope of short sessions, LongRope)"""
    original = s.original_context()
    factor, amplitude = s.factor(original), s.number("attention_factor", None)
    amplitude = longrope_amplitude(factor, original) if amplitude is None else amplitude
    short, long = (Rope(rope.base, rope.n_rotated, tuple(map(float, s.take(name))), amplitude)
                   for name in ("short_factor", "long_factor"))
    return short, LongRope(original, long)


def rope_of(c, values, base, d):
    """What a dictionary of settings describes: (Rope, LongRope or None, tokens that it stretches the model to or 0)"""
    s = Settings(c, values)
    base = float(s.number("rope_theta", base))
    share = s.number("partial_rotary_factor", None)
    share = c.number("partial_rotary_factor", 1.0) if share is None else share
    if share != 1 and c.arch != "phi3":
        raise BadInput(f"{c.folder}: config.json: partial_rotary_factor {share}: partial RoPE is supported for phi3 alone")
    rope, long, context = Rope(base, int(d * share)), None, 0
    if s.kind == "linear":
        rope = Rope(base, rope.n_rotated, (float(s.number("factor")),) * (rope.n_rotated // 2))
    elif s.kind == "llama3":
        factors = [float(s.number(name)) for name in ("factor", "low_freq_factor", "high_freq_factor")]
        rope = Rope(base, rope.n_rotated, llama3_divisors(rope, *factors, s.original_context()))
    elif s.kind == "yarn" and c.arch in YARN:
        rope, context = yarn_of(s, rope)
    elif s.kind == "longrope" and c.arch == "phi3":
        rope, long = longrope_of(s, rope)
    elif s.kind != "default":
        raise BadInput(f"{c.folder}: config.json: RoPE of type {s.kind!r} is not supported for {c.arch}; default, linear and "
                       f"llama3 are, yarn for {', '.join(YARN)}, longrope for phi3")
    s.take("original_max_position_embeddings", None)  # of a kind that does not use it
    s.take("finetuned", None)  # of the first models with YaRN: says how the model came to be
    s.refuse_left_over()
    return rope, long, context


def read_ropes(c, d):
    """Fields of a Model: the Rope of layers that see every token, that of layers with a window, that of long sessions, and
    the tokens that the model was made for, which YaRN's factor may raise beyond max_position_embeddings.

    transformers 5 writes rope_parameters, for Gemma one per kind of layer; older files have rope_theta and rope_scaling.
    """
    gemma = c.arch == "gemma3"
    base, local = c.number("rope_theta", 1e6 if gemma else 1e4), c.number("rope_local_base_freq", 1e4)
    settings, old, context = c.take("rope_parameters", {}), c.take("rope_scaling", {}), c.number("max_position_embeddings")
    if not isinstance(settings, dict) or not isinstance(old, dict) or (settings and old and settings != old):
        raise BadInput(f"{c.folder}: config.json: rope_parameters and rope_scaling are not one dictionary of settings")
    settings = settings or old
    if not gemma:
        rope, long, stretched = rope_of(c, settings, base, d)
        return {"rope": rope, "rope_local": rope, "rope_long": long, "context": max(context, stretched)}
    known = set(settings) & {"full_attention", "sliding_attention"}
    if known and known != set(settings):
        raise BadInput(f"{c.folder}: config.json: rope_parameters has layers of kind {sorted(set(settings) - known)}")
    return {"rope": rope_of(c, (settings.get("full_attention") or {}) if known else settings, base, d)[0],
            "rope_local": rope_of(c, (settings.get("sliding_attention") or {}) if known else {}, local, d)[0],
            "context": context}
