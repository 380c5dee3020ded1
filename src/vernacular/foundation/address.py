"""Places of other file systems, such as `s3://bucket/folder`: opened through fsspec, borne with, failures told."""

from __future__ import annotations

import re
from typing import Any

from vernacular.foundation.errors import MachineError, UserError, VernacularError, machine_error
from vernacular.foundation.patience import Passing

# NAME:PASSWORD@ before the host, where a password may hold a slash and a port does not; or what a signed URL ends with.
_HOLDS_SECRET = re.compile(r"://[^@/?#]*:(?!\d+/)[^@]*@|\?")
# Each file system's package has its own; these are of botocore, google-auth and azure-core.
_WITHOUT_ACCESS = {
    "ClientAuthenticationError",
    "CredentialRetrievalError",
    "DefaultCredentialsError",
    "NoCredentialsError",
    "PartialCredentialsError",
    "ProfileNotFound",
    "RefreshError",
    "TokenRetrievalError",
}


def is_address(text: str) -> bool:
    """Whether a text names a place of another file system, and not a path."""
    return "://" in text


def open_address(address: str) -> tuple[Any, str]:
    """The file system of an address, and the path in it; credentials are those that its package finds by itself.

    Raises:
        UserError: the address holds a secret, which errors and artifacts would repeat; it is not repeated here.
        MachineError: there is no package for it, or it cannot be reached.
    """
    import fsspec

    if _HOLDS_SECRET.search(address):
        raise UserError(
            "the address holds a password or a query, and addresses are written into artifacts and errors",
            where=f"an address that begins with {address.partition('://')[0]}://",
            fix="leave it out, and give credentials as the file system's package wants them: environment or profile",
        )
    try:
        files, path = fsspec.core.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise MachineError(
            f"no file system for this address: {error}",
            where=address,
            fix="install the package it names (s3fs for s3://, gcsfs for gs://), or correct the address",
        ) from error
    except OSError as error:  # some file systems connect at once
        raise explain(error, "opening it", address) from error
    return files, path


def may_pass(error: BaseException) -> bool:
    """Whether another try may help: not where something is missing or forbidden, nor with this machine's own faults."""
    if isinstance(error, VernacularError):
        return isinstance(error, Passing)
    if isinstance(error, OSError) and machine_error(error, "") is not None:
        return False
    return not isinstance(error, FileNotFoundError | NotADirectoryError) and not _is_denied(error)


def explain(error: BaseException, doing: str, where: str) -> MachineError:
    """A store's failure, with what to change; `doing` says what was tried, in a few words."""
    said = f"{error}, while {doing}"
    if isinstance(error, MachineError):
        return error
    if isinstance(error, OSError) and (own := machine_error(error, doing, where)) is not None:
        return own
    if _is_denied(error):
        return MachineError(
            f"access denied: {said}",
            where=where,
            fix="give this process keys that the store knows (s3: AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY, or"
            " AWS_PROFILE), or have them allowed to read and write there",
        )
    if isinstance(error, FileNotFoundError):
        return MachineError(f"not found: {said}", where=where, fix="make the bucket, or correct the address")
    return Passing(
        f"the store failed: {type(error).__name__}: {said}",
        where=where,
        fix="check the address (s3 other than Amazon's: AWS_ENDPOINT_URL) and the network, and run again to continue",
    )


def _is_denied(error: BaseException) -> bool:
    names = {kind.__name__ for kind in type(error).__mro__}
    return isinstance(error, PermissionError) or bool(names & _WITHOUT_ACCESS)
