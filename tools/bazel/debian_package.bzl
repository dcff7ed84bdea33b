"""Libraries out of Debian packages, under their upstream labels.

The headers are system headers (/usr/include), which the sandbox lets through
and -Werror leaves alone; a target is no more than its link options.
"""

def _require(ctx, path):
    if not ctx.path(path).exists:
        fail("@{}: {} is missing; run tools/setup.sh, or install the Debian package {}".format(
            ctx.name,
            path,
            ctx.attr.package,
        ))

def _library(name, linkopts):
    return """
cc_library(
    name = "{}",
    linkopts = {},
    visibility = ["//visibility:public"],
)
""".format(name, linkopts)

def _debian_package_impl(ctx):
    _require(ctx, ctx.attr.header)
    ctx.file("WORKSPACE", "workspace(name = \"{}\")\n".format(ctx.name), executable = False)
    ctx.file("BUILD", "".join([
        _library(name, linkopts)
        for name, linkopts in ctx.attr.libraries.items()
    ]), executable = False)

debian_package = repository_rule(
    implementation = _debian_package_impl,
    doc = "A repository with a cc_library for each entry of `libraries`.",
    local = True,
    attrs = {
        "header": attr.string(
            doc = "A file that the package installs.",
            mandatory = True,
        ),
        "libraries": attr.string_list_dict(
            doc = "Name of a target -> its link options.",
            mandatory = True,
        ),
        "package": attr.string(mandatory = True),
    },
)

# Abseil's targets that are not named after a header of their package.
_ABSEIL_TARGETS = {
    "algorithm": ["algorithm"],
    "base": ["base", "core_headers"],
    "debugging": ["debugging"],
    "flags": ["flags"],
    "memory": ["memory"],
    "meta": ["type_traits"],
    "random": ["distributions", "random"],
    "status": ["status"],
    "strings": ["strings"],
    "synchronization": ["synchronization"],
    "time": ["time"],
    "types": ["span"],
    "utility": ["utility"],
}

def _debian_abseil_impl(ctx):
    include = "/usr/include/absl"
    _require(ctx, include)
    listing = ctx.execute(["sh", "-c", """
        for library in /usr/lib/*/libabsl_*.so; do
          basename "$library" .so
        done"""])
    names = [line[len("lib"):] for line in listing.stdout.splitlines() if "*" not in line]
    if not names:
        fail("no libabsl_*.so found; run tools/setup.sh, or install libabsl-dev")

    # All of them, as needed: which of its libraries a target of Abseil takes
    # is not recorded in Debian's package.
    ctx.file("WORKSPACE", "workspace(name = \"{}\")\n".format(ctx.name), executable = False)
    ctx.file("BUILD", _library("absl", [
        "-Wl,--push-state,--as-needed",
    ] + ["-l" + name for name in names] + [
        "-Wl,--pop-state",
        "-lpthread",
    ]), executable = False)

    for package in ctx.path(include).readdir():
        headers = [f.basename for f in package.readdir()]
        targets = {name[:-len(".h")]: None for name in headers if name.endswith(".h")}
        for name in _ABSEIL_TARGETS.get(package.basename, []):
            targets[name] = None
        ctx.file("absl/" + package.basename + "/BUILD", "".join([
            """
alias(
    name = "{}",
    actual = "//:absl",
    visibility = ["//visibility:public"],
)
""".format(name)
            for name in sorted(targets)
        ]), executable = False)

debian_abseil = repository_rule(
    implementation = _debian_abseil_impl,
    doc = "Abseil: a target for each header, all of them one library.",
    local = True,
    attrs = {"package": attr.string(default = "libabsl-dev")},
)
