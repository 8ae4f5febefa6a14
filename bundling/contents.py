"""
What each function's image holds and how much it may weigh: the table that everything else here follows.

It names distributions, not versions: constraints.txt has those, wheels.lock their files.
"""

from __future__ import annotations

from dataclasses import dataclass

MB = 1_000_000  # as Docker counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """
    One function's image.

    Args:
        name: The function's folder; "fused" is all of Classy in one function, deployed from the checkout's top.
        folder: Where its Dockerfile is, relative to the checkout.
        func: Its func.py, relative to the checkout.
        distributions: What is installed beside our own wheel and the FDK's; by their normalised names.
        limit_mb: The most that it may add to its base image.
    """

    name: str
    folder: str
    func: str
    distributions: tuple[str, ...]
    limit_mb: int


OWN = "classy-fn"
FDK = ("fdk", "httptools")
WEB = ("blinker", "click", "flask", "itsdangerous", "jinja2", "markupsafe", "werkzeug")  # of the HTTP API

FUNCTIONS = {
    contents.name: contents
    for contents in (
        Contents(
            name="classy",
            folder="functions/classy",
            func="functions/classy/func.py",
            distributions=("numpy", "obstore", *WEB),
            limit_mb=120,
        ),
        Contents(
            name="downloader",
            folder="functions/downloader",
            func="functions/downloader/func.py",
            distributions=("certifi", "h11", "obstore"),
            limit_mb=120,
        ),
        Contents(
            name="preprocessor",
            folder="functions/preprocessor",
            func="functions/preprocessor/func.py",
            distributions=("numpy", "obstore", "pillow"),
            limit_mb=150,
        ),
        Contents(
            name="vgg",
            folder="functions/vgg",
            func="functions/vgg/func.py",
            distributions=("blake3", "numpy", "obstore", "onnxruntime"),
            limit_mb=250,
        ),
        Contents(
            name="fused",
            folder=".",
            func="functions/classy/func.py",  # the same front, with every stage in its own process
            distributions=("blake3", "certifi", "h11", "numpy", "obstore", "onnxruntime", "pillow", *WEB),
            limit_mb=250,
        ),
    )
}

# What the distributions above ask for and never import while they serve, and so stays out.
LEFT_OUT = {
    "cython": "the FDK's build",
    "iso8601": "asked for by the FDK, imported nowhere in it",
    "pbr": "the FDK's build",
    "pytest": "the FDK's tests",
    "pytest-asyncio": "the FDK's tests",
    "wheel": "the FDK's build",
    "flatbuffers": "onnxruntime's tools",
    "packaging": "onnxruntime's tools",
    "protobuf": "onnxruntime's tools",
    "typing-extensions": "type hints of obstore and blake3",
}

EVERYWHERE = (
    "*.pyc",  # the image's own Python compiles them, see Dockerfile
    *("*.pyi", "*.pyx", "*.pxd", "*.c", "*.h", "*.a"),
    "*/tests/*",
    # Licences and METADATA stay; the record of the whole wheel would not be true any more.
    *(f"*.dist-info/{name}" for name in ("RECORD", "WHEEL", "entry_points.txt", "top_level.txt", "sboms/*")),
)
TRIMMED = {
    "fdk": ("fdk/fixtures.py",),
    "numpy": (
        *("numpy/f2py/*", "numpy/distutils/*"),
        "numpy/_pyinstaller/*",
        "numpy/conftest.py",
        "numpy/_core/lib/*",  # for C extensions to be built against
        "numpy/_core/_*_tests.*.so",
        "numpy/_core/_simd.*.so",  # for numpy's own tests of its universal intrinsics
    ),
    "onnxruntime": (
        # A second copy for C programs, 29 MB; the Python module has its own inside. Only providers_shared is opened.
        "onnxruntime/capi/libonnxruntime.so.*",
        *(f"onnxruntime/{name}/*" for name in ("backend", "datasets", "quantization", "tools", "transformers")),
    ),
    "pillow": (
        # Text and colour management, 4 MB, and the libraries that nothing else links.
        *(f"PIL/_imaging{name}.*.so" for name in ("ft", "cms", "tk")),
        *(
            f"pillow.libs/lib{name}-*"
            for name in ("freetype", "harfbuzz", "brotlicommon", "brotlidec", "lcms2", "png16")
        ),
    ),
}
