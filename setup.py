"""Builds the compiled form of the hot modules where that is possible.

Everything else about the package is in ``setup.cfg``.  The same ``.py`` files are
compiled with mypyc and installed beside their compiled form, so there is no second
source, and what is not compiled runs as plain Python.  One small module in C binds the
system calls that a daemon makes all the time; without it Python's own are used.

``TXSPREAD_COMPILE``:

* unset: compile if there is a C compiler and mypyc, else say so and go on without;
* ``0``: do not compile; ``1``: fail when it does not work.

An editable installation is compiled only with ``1``: compiled modules would hide
later changes of their sources.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

WANTED = os.environ.get("TXSPREAD_COMPILE", "")
WITHOUT = {"develop", "editable_wheel", "dist_info", "egg_info", "sdist"}
"""Commands that do not call for compilation."""
HOT = {
    "wire": "byteorder constants datagram errors identifiers message packet token",
    "engine/ring": (
        "assembly counters delivery flow identity lingering packet_store packing reception "
        "recovery retransmission sending token_machine token_visit"
    ),
    "engine/groups": "layer memberships names routing telling",
    "engine": (
        "interfaces local_ring node ring_interfaces ring_stack routing session_output "
        "session_validation sessions sessions_admission sessions_handshakes sessions_pace "
        "sessions_serving sessions_state timers trace traced_node"
    ),
    "daemon": "batch_receive batch_send datagrams host hub stream system_calls",
}
"""What runs for each token, packet, message or system call.  The rest would gain
nothing and costs minutes of compilation."""
IN_C = {"daemon": "_system_calls"}
"""Extension modules, where the system is Linux; what they do is done without them as well."""
OPTIONS = (
    "--config-file=",
    "--python-version=3.11",
    "--follow-imports=silent",
    "--ignore-missing-imports",
    "--cache-dir=build/mypy_cache",
)


def notice(text: str) -> None:
    """Say something that is visible in ``pip install -v`` and in a build's log."""
    print(f"txspread: {text}", file=sys.stderr, flush=True)


def modules() -> list[str]:
    """The files that are compiled."""
    return [
        f"txspread/{folder}/{name}.py" for folder, names in HOT.items() for name in names.split()
    ]


def probe() -> None:
    """Compile and link a module for this interpreter; raises whatever the compiler does."""
    from distutils.ccompiler import new_compiler
    from distutils.sysconfig import customize_compiler

    compiler = new_compiler()
    customize_compiler(compiler)
    folder = Path(tempfile.mkdtemp(prefix="txspread-"))
    try:
        source = folder / "probe.c"
        source.write_text("#include <Python.h>\nint probe(void) { return Py_IsInitialized(); }\n")
        objects = compiler.compile(
            [str(source)],
            output_dir=str(folder),
            include_dirs=[sysconfig.get_path("include"), sysconfig.get_path("platinclude")],
        )
        compiler.link_shared_object(objects, str(folder / "probe.so"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def extensions() -> list[Extension]:
    """The modules to compile; none if they are not wanted or it is not possible."""
    if WANTED == "0" or (WANTED != "1" and WITHOUT.intersection(sys.argv)):
        return []
    if not any("build" in word or "wheel" in word or "install" in word for word in sys.argv):
        return []
    try:
        if sys.implementation.name != "cpython":
            raise RuntimeError("not CPython")
        from mypyc.build import mypycify

        probe()
    except Exception as error:  # the compilers' errors have no common ancestor
        if WANTED == "1":
            raise
        notice(f"installed as plain Python, which is slower: {error}")
        return []
    found: list[Extension] = mypycify(
        [*OPTIONS, *modules()], opt_level="2", debug_level="0", multi_file=True
    )
    if sys.platform == "linux":
        found += [
            Extension(
                f"txspread.{folder.replace('/', '.')}.{name}", [f"txspread/{folder}/{name}.c"]
            )
            for folder, names in IN_C.items()
            for name in names.split()
        ]
    for extension in found:
        # What a newer compiler warns of is no reason to run plain Python.
        extension.extra_compile_args = [
            word for word in extension.extra_compile_args or [] if word != "-Werror"
        ]
    return found


def in_parallel(compile_serially: Callable[..., list[str]]) -> Callable[..., list[str]]:
    """A compiler's ``compile`` that uses all cores for the sources of one extension."""

    def compile_all(sources: list[str], *arguments: object, **options: object) -> list[str]:
        def compile_one(source: str) -> list[str]:
            return compile_serially([source], *arguments, **options)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return [name for names in pool.map(compile_one, sources) for name in names]

    return compile_all


class Build(build_ext):
    """All extensions or none."""

    def build_extensions(self) -> None:
        """Compile; on failure leave nothing behind that an import could find."""
        self.compiler.compile = in_parallel(self.compiler.compile)
        try:
            super().build_extensions()
        except Exception as error:  # as above
            if WANTED == "1":
                raise
            for extension in self.extensions:
                Path(self.get_ext_fullpath(extension.name)).unlink(missing_ok=True)
            self.extensions = []
            notice(f"installed as plain Python, which is slower: {error}")


setup(ext_modules=extensions(), cmdclass={"build_ext": Build})
