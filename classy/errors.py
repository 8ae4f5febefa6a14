"""
Classy's own errors: the same tree and the same kind of number as graphpipe_fn's (HTTP status × 100 + serial).

    GraphPipeError
    ├── BadRequest           40011    the caller's JSON or body can't be used
    ├── UnusableURL          40012    not a URL that is fetched: scheme, port, user info, control bytes
    ├── KeyNeeded            40111    the HTTP API wants a key, and this is none or a wrong one
    ├── ForbiddenAddress     40311    the URL leads to an address that is not public
    ├── ForeignPage          40312    another origin's page asks, and is not allowed to
    ├── UnknownModel         40411    the caller names a model that is not published
    ├── NothingKept          40412    this deployment keeps no records, or no pictures
    ├── ModelExists          40912    that version is published already, with other bytes
    ├── UnsupportedMedia     41511    a body of a media type or encoding that is not read
    ├── ForeignHost          42111    the request names a host that this server is not
    ├── UnreadablePicture    42211    no picture, cut short, or a format that is not read
    ├── PictureTooLarge      41311    too many bytes or pixels
    ├── BatchTooLarge        41313    it would bring its request over the limit; alone it may be fine
    ├── PictureTooCostly     41312    decoding it would take too much time or memory
    ├── SourceFailed         42411    the URL's server does not answer, or not with a picture
    ├── SourceTimedOut       42412    it answers too slowly
    ├── SourceNotFound       42413    it says that there is no such file; or there is no such object
    ├── SourceReplaced       42414    an object was overwritten before its upload's event was dealt with
    ├── TooManyRequests      42911    one client asks too often
    ├── StorageFailed        50211    the object storage can't be reached or refuses us
    ├── UploadDelayed        50212    an upload can't be classified now: its event must come again
    ├── RecordsFailed        50213    the record store can't be reached, is full, or refuses us
    ├── ModelMissing         50311    no such model is published
    ├── ModelSpoilt          50312    a model's files are not what its manifest says
    └── DiskFull             50711    no room for the model
"""

from __future__ import annotations

from graphpipe_fn.errors import Busy, GraphPipeError, TimedOut, TooLarge, TransportFailed, Unavailable


class BadRequest(GraphPipeError):
    """The caller's JSON or body can't be used."""

    code = 40011


class UnusableURL(GraphPipeError):
    """Not a URL that is fetched: its scheme, port, user info or characters."""

    code = 40012


class KeyNeeded(GraphPipeError):
    """The HTTP API wants a key in X-Api-Key, and the request has none, or a wrong one."""

    code = 40111


class ForbiddenAddress(GraphPipeError):
    """The URL leads to an address that is not public, at once or by way of a name or redirect."""

    code = 40311


class ForeignPage(GraphPipeError):
    """A page of another origin asks for a change, and is none of those that may."""

    code = 40312


class UnknownModel(GraphPipeError):
    """The caller names a model that is not published."""

    code = 40411


class NothingKept(GraphPipeError):
    """What is asked for is not kept in this deployment."""

    code = 40412


class ModelExists(GraphPipeError):
    """That name and version of a model is published already, with other bytes."""

    code = 40912


class UnsupportedMedia(GraphPipeError):
    """A body of a media type, or in an encoding, that is not read."""

    code = 41511


class ForeignHost(GraphPipeError):
    """The request names a host that this server is not: a name that somebody else's DNS lets point here."""

    code = 42111


class UnreadablePicture(GraphPipeError):
    """No picture, one that is cut short, or a format that is not read."""

    code = 42211


class PictureTooLarge(GraphPipeError):
    """A picture of too many bytes or pixels."""

    code = 41311


class BatchTooLarge(GraphPipeError):
    """A picture that would bring its request over the limit of bytes; in another request it may be fine."""

    code = 41313


class PictureTooCostly(GraphPipeError):
    """A picture whose decoding takes too much time or memory."""

    code = 41312


class SourceFailed(GraphPipeError):
    """The URL's server does not answer, or with something that is no success."""

    code = 42411


class SourceTimedOut(GraphPipeError):
    """The URL's server is too slow for the time that there is."""

    code = 42412


class SourceNotFound(GraphPipeError):
    """The URL's server says 404 or 410, or the bucket has no such object."""

    code = 42413


class SourceReplaced(GraphPipeError):
    """The bucket has another object by now than the one that an event announced under this key."""

    code = 42414


class TooManyRequests(GraphPipeError):
    """One client asks more often than it may; the same request may succeed later."""

    code = 42911
    retryable = True


class StorageFailed(GraphPipeError):
    """The object storage can't be reached, or refuses our credentials."""

    code = 50211


class UploadDelayed(GraphPipeError):
    """
    An upload can't be classified now, so its event must come again.

    502 is the one status that every platform, Fn's direct invoke too, takes for a failed call.
    """

    code = 50212


class RecordsFailed(GraphPipeError):
    """The record store can't be reached, is full, or refuses us."""

    code = 50213


class ModelMissing(GraphPipeError):
    """No model of that name and version is published."""

    code = 50311


class ModelSpoilt(GraphPipeError):
    """A model's files are not what its manifest says, or no model at all."""

    code = 50312


class DiskFull(GraphPipeError):
    """No room on the disk for the model."""

    code = 50711


def batch_too_large(shown: str, limit_bytes: int) -> BatchTooLarge:
    """
    Return what a picture is refused with that has no room beside the others of its request.

    Args:
        shown: Names the picture.
    """
    return BatchTooLarge(
        f"{shown} would bring its request over {limit_bytes:,} bytes; send it in another one, or raise "
        "CLASSY_LIMIT_REQUEST_BYTES and the functions' memory"
    )


# What no second try would mend: the verdict on the picture itself. Any other error of a picture may be another one's
# fault, or nobody's for long, so an upload's event comes again.
FINAL = frozenset(
    kind.code
    for kind in (UnreadablePicture, PictureTooLarge, PictureTooCostly, SourceNotFound, SourceReplaced, TooLarge)
)
# Final for now: an object that was not there, or was another one, may come back with the same etag.
GONE = frozenset((SourceNotFound.code, SourceReplaced.code))
# What asking again may mend; an answer says so.
RETRYABLE = frozenset(
    kind.code
    for kind in (
        Busy,
        RecordsFailed,
        SourceTimedOut,
        StorageFailed,
        TimedOut,
        TransportFailed,
        Unavailable,
        UploadDelayed,
    )
)
