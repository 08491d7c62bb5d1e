"""The ``README.md`` of a bundle: what is in it, how each program is started, and whose it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_HEAD = """\
# {name}

A {architecture} detector of {classes} classes in the format {format} ({precision}), for pictures of {width}x{height}
pixels, with all that is needed to run it without the software that trained it.

| file | what it is |
|---|---|
| `{file}` | the model |
| `spec.json` | how to feed and read it; `spec.schema.json` describes every entry |
| `golden/` | a picture (`.ppm` has the pixels of `.png`), input and output for it (little-endian float32), detections |
| `manifest.json` | what the model was made from, and how it compares with its checkpoint |
| `SHA256SUMS` | `sha256sum --check SHA256SUMS` |

Every program below takes `--self-check`: it repeats the way from the golden picture to the golden detections step by
step, says which step differs, and ends with 1 if one does. Run it first on every new machine.
"""

_PYTHON = """
## Python

    pip install -r python/requirements.txt
    python python/{program}.py --self-check
    python python/{program}.py --image photo.jpg --output boxes.jpg
"""

_OTHERS = """
## JavaScript (Node.js 18 or newer)

    cd javascript && npm install
    node onnx_inference.mjs --self-check
    node onnx_inference.mjs --image photo.png

Pictures other than PNG and PPM are read by the package sharp, if it is installed. In a browser: `npm install
onnxruntime-web`, serve this folder, and open `javascript/browser.html`, which checks itself and takes a picture;
`detector.mjs` uses nothing but the language.

## C++17

    cmake -S cpp -B build -DONNXRUNTIME=/path/to/onnxruntime && cmake --build build
    build/onnx_inference --self-check
    build/onnx_inference --image photo.ppm

`/path/to/onnxruntime` holds `include` and `lib`, as in a release of ONNX Runtime. Pictures other than PPM are read by
OpenCV, if CMake finds it.

## C# (.NET 8 or newer)

    cd csharp && dotnet run -- --self-check
    dotnet run -- --image photo.ppm

`Detector.cs` uses nothing but the language; for a phone or a game engine take it and read pictures your own way.
"""

_LICENCES = """
## Licences

The programs are under the MIT licence, see `LICENSE`. {weights}
"""


def readme(spec: Mapping[str, Any]) -> str:
    """Return the text for the content of a ``spec.json``."""
    model, licence = spec["model"], spec["licences"]["weights"]
    facts = {
        "name": model["file"],
        "file": model["file"],
        "architecture": model["architecture"],
        "classes": len(spec["classes"]),
        "format": model["format"],
        "precision": model["precision"],
        "width": spec["input"]["width"],
        "height": spec["input"]["height"],
        "program": "tflite_inference" if model["format"] == "tflite" else "onnx_inference",
        "weights": (
            "What may be done with the weights is not recorded in them: ask whoever trained them."
            if licence == "unknown"
            else f"The weights are under {licence}, which may ask more of you."
        ),
    }
    parts = [_HEAD, _PYTHON, *([] if model["format"] == "tflite" else [_OTHERS]), _LICENCES]
    return "".join(parts).format(**facts)
