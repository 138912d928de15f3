# Run by the server with the executable a kernel is to have; prints what it must know of it as JSON.
# Must run on any Python there is, however old.
import json
import os
import sys

facts = {
    "version": list(sys.version_info[:3]),
    "implementation": sys.implementation.name if hasattr(sys, "implementation") else "cpython",
}
if sys.version_info >= (3, 11):
    import sysconfig

    names = [sysconfig.get_config_var("INSTSONAME"), sysconfig.get_config_var("LDLIBRARY")]
    names.append("libpython%d.%d.so.1.0" % sys.version_info[:2])
    names = [n for n in names if n and ".so" in n]
    folders = [sysconfig.get_config_var("LIBDIR"), os.path.join(sys.base_prefix, "lib")]
    multiarch = sysconfig.get_config_var("MULTIARCH")
    folders += [os.path.join(f, multiarch) for f in folders if f and multiarch]
    candidates = [os.path.join(f, n) for n in names for f in folders if f]
    # What this very process has loaded is surest.
    try:
        with open("/proc/self/maps") as maps:
            loaded = {line.split(None, 5)[5].strip() for line in maps if "/libpython" in line}
        candidates = sorted(n for n in loaded if os.path.basename(n) in names) + candidates
    except OSError:
        pass
    facts["library"] = next((c for c in candidates if os.path.isfile(c)), None)
    facts["free_threaded"] = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    facts["word_bits"] = sys.maxsize.bit_length() + 1
    facts["prefix"] = sys.prefix
    try:
        from importlib.metadata import version

        facts["ipython"] = version("ipython")
    except Exception:
        facts["ipython"] = None
print(json.dumps(facts))
