"""Imports the Python half of the kernel from the binary it is part of."""

import importlib.abc
import importlib.machinery
import sys


class Embedded(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Finds and loads the modules in `sources`, a mapping of `package/module.py` to text."""

    def __init__(self, sources):
        self._sources = sources

    def _file(self, fullname):
        base = fullname.replace(".", "/")
        return next((f for f in (base + "/__init__.py", base + ".py") if f in self._sources), None)

    def find_spec(self, fullname, path=None, target=None):
        file = self._file(fullname)
        if file is None:
            return None
        spec = importlib.machinery.ModuleSpec(
            fullname, self, origin=f"<engine>/{file}", is_package=self.is_package(fullname)
        )
        spec.has_location = True
        return spec

    def is_package(self, fullname):
        return (self._file(fullname) or "").endswith("/__init__.py")

    def get_source(self, fullname):
        file = self._file(fullname)
        if file is None:
            raise ImportError(f"no module named {fullname!r} in the engine", name=fullname)
        return self._sources[file]

    def get_code(self, fullname):
        return self.source_to_code(self.get_source(fullname), f"<engine>/{self._file(fullname)}")


def install(sources):
    # Before all others: an installed package of the same name is not ours.
    sys.meta_path.insert(0, Embedded(sources))
    sys.argv[:] = [""]
