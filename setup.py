"""Build of the compiled rooms; everything declarative is in pyproject.toml.

Switches (environment):
    OBSTORE_DEBUG=1             asserts and live-object counters, no optimisation
    OBSTORE_SANITIZE=LIST       compiler's -fsanitize list, e.g. "address,undefined" or "thread"
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

ROOT = Path(__file__).parent
DEBUG = os.environ.get("OBSTORE_DEBUG") == "1"
SANITIZE = os.environ.get("OBSTORE_SANITIZE", "")

compile_args = ["-std=c11", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror=implicit-function-declaration"]
link_args: list[str] = []
macros: list[tuple[str, str | None]] = [("_GNU_SOURCE", None)]

if DEBUG:
    compile_args += ["-O0", "-g3"]
    macros.append(("OB_DEBUG", "1"))
else:
    compile_args += ["-O2", "-g1"]
if SANITIZE:
    compile_args += [f"-fsanitize={SANITIZE}", "-fno-omit-frame-pointer"]
    link_args.append(f"-fsanitize={SANITIZE}")

csrc = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "csrc").glob("*.c"))
csrc_headers = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "csrc").glob("*.[hd]*"))

extensions = [
    # The only extension that compiles all of csrc/: linked into two, its globals would exist twice.
    Extension(
        "obstore._engine._core",
        ["obstore/_engine/_core.pyx", *csrc],
        depends=[*csrc_headers, *map(str, sorted(Path("obstore/_engine").glob("*.px[di]")))],
        include_dirs=["csrc"],
        define_macros=macros,
        extra_compile_args=compile_args,
        extra_link_args=[*link_args, "-pthread"],
        libraries=["dl"],
    ),
    *(
        Extension(
            f"obstore._run.{name}",
            [f"obstore/_run/{name}.pyx"],
            depends=["obstore/_run/runner.pxd"],
            define_macros=macros,
            extra_compile_args=compile_args,
            extra_link_args=link_args,
        )
        for name in ("future", "runner", "sync")
    ),
    *(
        Extension(
            f"obstore._auth.{name}",
            [f"obstore/_auth/{name}.pyx", "csrc/ob_sha256.c"],  # it has no state
            depends=["csrc/ob_sha256.h", "obstore/_auth/sha256.pxd"],
            include_dirs=["csrc"],
            define_macros=macros,
            extra_compile_args=compile_args,
            extra_link_args=[*link_args, "-pthread"],
        )
        for name in ("shared_key", "sigv4")
    ),
]

setup(
    ext_modules=cythonize(
        extensions,
        compiler_directives={
            "language_level": "3",
            "embedsignature": True,
            "boundscheck": False,
            "wraparound": False,
            "freethreading_compatible": True,
        },
    )
)
