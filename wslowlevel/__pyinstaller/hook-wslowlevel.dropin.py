"""Add the versions of the libraries that the drop-in patches, without adding the libraries themselves."""

from importlib.metadata import PackageNotFoundError, distribution

from PyInstaller.utils.hooks import copy_metadata

from wslowlevel.dropin import LIBRARIES

datas = []
for library in LIBRARIES:
    try:
        distribution(library)
    except PackageNotFoundError:
        continue
    datas += copy_metadata(library)

# A library is added only if the program imports it, not because the drop-in could patch it.
excludedimports = list(LIBRARIES.values())
