"""A second local backend with job folders of its own, installed as a package of somebody else would be."""

from pathlib import Path

NAME = "elsewhere"
_SOURCE = f"""
from backends.local.backend import LocalBackend

class Backend(LocalBackend):
    name = "{NAME}"

    def job_folder(self, job_id):
        return self.context.settings.data_dir / "{NAME}" / job_id
"""
BLIND = """
    def can_read(self, uri):
        return not uri.startswith("/")
"""


def install(folder: Path, more: str = "", name: str = NAME, source: str = _SOURCE) -> Path:
    """Write the package into a folder, which is to be put on the path; `more` goes into its class."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / f"{name}_backend.py").write_text(source + more)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[trainyard.backends]\n{name} = {name}_backend:Backend\n")
    return folder
