"""Where the files of a data set are: in a given folder, or in the user's cache."""

import os
from dataclasses import dataclass
from pathlib import Path

from drawnet.data.download import Remote, fetch
from drawnet.data.images import DataError
from drawnet.progress import Progress


def cache() -> Path:
    """The folder for downloaded and prepared files: `$XDG_CACHE_HOME/drawnet`, by default
    `~/.cache/drawnet`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "drawnet"


@dataclass(frozen=True)
class Store:
    """Where to look for files, and whom to tell about long work.

    Args:
        data_dir: The only folder to look in; nothing is downloaded then. If None, look in the
            folder that the environment variable DRAWNET_DATA names, then in the cache, then
            download.
        progress: Called now and then during downloads and preparations.
    """

    data_dir: Path | None = None
    progress: Progress | None = None

    def folders(self, name: str) -> list[Path]:
        """The folders that may hold the set, best first: `<root>/<name>` and `<root>` itself."""
        if self.data_dir is not None:
            roots = [self.data_dir]
        else:
            named = os.environ.get("DRAWNET_DATA")
            roots = [*([Path(named).expanduser()] if named else []), cache()]
        return [folder for root in roots for folder in (root / name, root)]

    def locate(self, name: str, filename: str) -> Path | None:
        """A file of the set, as it is or gzipped, or None."""
        for folder in self.folders(name):
            for path in (folder / filename, folder / f"{filename}.gz"):
                if path.is_file():
                    return path
        return None

    def find(self, name: str, filename: str, remote: Remote, what: str | None = None) -> Path:
        """A file of the set, as it is or gzipped, downloaded into the cache if need be.

        Args:
            what: What an error says is missing, if another file would do as well.
        """
        path = self.locate(name, filename)
        if path is not None:
            return path
        if self.data_dir is not None:
            raise self.missing(name, what or filename)
        target = cache() / name / remote.filename
        fetch(remote, target, self.progress)
        return target

    def tell(self, what: str, done: int, total: int) -> None:
        """Report that `done` of `total` pieces of some long work are done."""
        if self.progress is not None:
            self.progress(what, done, total)

    def missing(self, name: str, what: str, by_hand: str = "") -> DataError:
        """The error that says where `what` was looked for and how to get it."""
        tried = ", ".join(str(folder) for folder in self.folders(name))
        hint = f". {by_hand}" if by_hand else ""
        return DataError(f"{name}: expected {what}, found in none of: {tried}{hint}")
