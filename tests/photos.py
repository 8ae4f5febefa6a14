"""
Real photos of known ImageNet classes, out of packages; none is part of this repository.

Licences: coffee, chelsea and camera are CC0, rocket is in the public domain (scikit-image's own notes); china is
CC BY 2.0 by danielbuechele (scikit-learn's README). foolbox's twenty are photos of ImageNet itself, whose rights are
unclear: they are fetched for the test and go nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass

from packages import member


@dataclass(frozen=True)
class Photo:
    """
    Where a photo is, and what is on it.

    Args:
        package: One of PACKAGES, whose hash holds for the photo too.
        path: In its wheel.
        classes: The ImageNet indices that name it rightly; several where the classes overlap.
    """

    package: str
    path: str
    classes: tuple[int, ...]


# Requirement, SHA-256 of its wheel, whether one wheel serves every platform.
PACKAGES = {
    "foolbox": ("foolbox==3.3.4", "11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb", True),
    "skimage": ("scikit-image==0.26.0", "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af", False),
    "sklearn": ("scikit-learn==1.9.1", "52a0703bbc07ad27f560fa63fa68e4c54dd735bfbbf65b4dd3c225dc7547b6df", False),
}

# The classes of foolbox's photos, in their order; the package writes them into the files' names.
FOOLBOX = (243, 559, 438, 990, 949, 853, 609, 609, 915, 455, 541, 630, 741, 471, 129, 99, 251, 22, 317, 305)

PHOTOS = {
    "camera.png": Photo("skimage", "skimage/data/camera.png", (872,)),
    "chelsea.png": Photo("skimage", "skimage/data/chelsea.png", (281, 282, 285)),
    "coffee.png": Photo("skimage", "skimage/data/coffee.png", (967,)),
    "rocket.jpg": Photo("skimage", "skimage/data/rocket.jpg", (657, 744)),  # both are missiles
    "china.jpg": Photo("sklearn", "sklearn/datasets/images/china.jpg", (698,)),
    **{
        f"imagenet_{place:02}_{index}.jpg": Photo(
            "foolbox", f"foolbox/data/imagenet_{place:02}_{index}.jpg", (index,)
        )
        for place, index in enumerate(FOOLBOX)
    },
}


def photo(name: str) -> bytes:
    """Return a photo's file, one of PHOTOS."""
    requirement, sha256, pure = PACKAGES[PHOTOS[name].package]
    return member(requirement, sha256, PHOTOS[name].path, pure=pure)
