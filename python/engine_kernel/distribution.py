"""Packages of the Pyodide distribution, and the package index where the distribution is out of reach."""

import sys
from collections.abc import Iterable

# The index that micropip asks anyway. Spelled otherwise than its default, it is looked at before the
# distribution.
_INDEX_FIRST = "https://pypi.org/simple/{package_name}/"


async def install(requirements: list[str], **options: object) -> None:
    """Installs as micropip does. What the distribution has and does not give comes from the index."""
    import micropip

    lost = await _install(requirements, options)
    if not lost:
        return
    names = ", ".join(lost)
    sys.stderr.write(f"Pyodide's packages are out of reach, looking for {names} in the index\n")
    await install_from_index(lost, **options)


async def install_from_index(names: Iterable[str], **options: object) -> None:
    """Installs what the index has, with the sums that the index has for it.

    What it does not have is asked of the distribution. An OSError names what neither gives.
    """
    import micropip

    manager = micropip._package_manager_singleton
    urls = manager.index_urls
    default = micropip.package_index.DEFAULT_INDEX_URLS
    first = [_INDEX_FIRST] if urls == default else urls
    lost = await _install(list(names), {**options, "index_urls": first})
    if lost:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in lost.items())
        raise OSError(f"neither the package index nor Pyodide's distribution gives {reasons}")


def packages_of(modules: Iterable[str]) -> list[str]:
    """The packages of the distribution that have these modules."""
    from micropip._compat import compatibility_layer

    owners = {
        imported: name
        for name, package in compatibility_layer.lockfile_packages.items()
        for imported in package["imports"]
    }
    return sorted({owners[module] for module in modules if module in owners})


async def _install(requirements: list[str], options: dict[str, object]) -> dict[str, str]:
    """What was to come from the distribution and did not, and why."""
    import micropip

    manager = micropip._package_manager_singleton
    layer = manager.compat_layer
    lost: dict[str, str] = {}

    class Watched(layer):
        @staticmethod
        async def loadPackage(names: Iterable[str]) -> None:
            lost.update(await _load(list(names)))

    manager.compat_layer = Watched
    try:
        await micropip.install(requirements, **options)
    finally:
        manager.compat_layer = layer
    return lost


async def _load(names: list[str]) -> dict[str, str]:
    """Loads packages of the distribution; those that did not come, and why."""
    import pyodide_js
    from pyodide.ffi import to_js

    complaints: list[str] = []
    try:
        await pyodide_js.loadPackage(
            to_js(names),
            messageCallback=lambda _message: None,
            errorCallback=complaints.append,
        )
    except Exception as error:
        complaints.append(str(error))
    if not complaints:
        return {}
    reason = complaints[-1].strip()
    loaded = pyodide_js.loadedPackages.to_py()
    return {name: reason for name in names if not _is_loaded(name, loaded)}


def _is_loaded(name: str, loaded: dict[str, str]) -> bool:
    plain = name.lower().replace("_", "-")
    return any(plain == it.lower().replace("_", "-") for it in loaded)
