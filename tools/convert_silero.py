"""Takes the tensors of Silero VAD out of its package: python tools/convert_silero.py [FILE]

Needs torch and silero-vad==6.2.3 (pip install --no-deps silero-vad). The package's safetensors file holds an older
training, so the tensors come from the model it runs by default, silero_vad.jit. Its first product is a Fourier
transform under a Hann window; crane_app/media/vad.py computes that itself, so it is checked here and left out.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import silero_vad

FILE = Path(__file__).parents[1] / "crane_app" / "assets" / "silero" / "silero_vad_6.npz"
RATES = {16000: "_model", 8000: "_model_8k"}
LAYERS = {f"encoder.{i}.reparam_conv": f"conv{i + 1}" for i in range(4)} | {"decoder.decoder.2": "head"}
LSTM = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def tensors(state: dict, prefix: str) -> dict[str, np.ndarray]:
    """The tensors of one rate, by the names that media/vad.py reads."""
    found = {f"lstm.{name}": state[f"{prefix}.decoder.rnn.{name}"] for name in LSTM}
    for theirs, ours in LAYERS.items():
        found |= {f"{ours}.{part}": state[f"{prefix}.{theirs}.{part}"] for part in ("weight", "bias")}
    return {name: tensor.numpy() for name, tensor in found.items()}


def check_fourier(basis: np.ndarray) -> None:
    """`basis` [2 * (n / 2 + 1), n] is cosines, then negated sines, under a periodic Hann window."""
    n = basis.shape[-1]
    transform = np.fft.rfft(np.eye(n) * np.hanning(n + 1)[:n], axis=-1).T
    np.testing.assert_allclose(basis, np.concatenate([transform.real, transform.imag]), atol=1e-6)


def main(file: Path = FILE) -> None:
    state = silero_vad.load_silero_vad().state_dict()
    arrays = {}
    for rate, prefix in RATES.items():
        check_fourier(state[f"{prefix}.stft.forward_basis_buffer"][:, 0].numpy())
        arrays |= {f"{rate}.{name}": array for name, array in tensors(state, prefix).items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez(file, **arrays)
    print(f"{file}: {len(arrays)} tensors, {file.stat().st_size} bytes")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
