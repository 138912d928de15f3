"""Magics that differ between a kernel and IPython in a terminal."""

from IPython.core.magic import Magics, line_magic, magics_class


@magics_class
class KernelMagics(Magics):
    @line_magic
    def pip(self, line: str):
        """Installs packages: `%pip install NAME…`, as pip on a command line."""
        return self.shell.pip(line)
