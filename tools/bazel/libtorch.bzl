"""PyTorch's C++ libraries, where Debian's libtorch-dev is installed."""

_HEADER = "/usr/include/torch/csrc/distributed/rpc/tensorpipe_agent.h"
_INCLUDE = "/usr/include/torch/csrc/api/include"

def _libtorch_impl(ctx):
    ctx.file("WORKSPACE", "workspace(name = \"{}\")\n".format(ctx.name), executable = False)
    found = ctx.path(_HEADER).exists
    if found:
        attributes = """
    # Debian builds libtorch with these; without them its headers hide the agent.
    defines = [
        "USE_DISTRIBUTED",
        "USE_RPC",
        "USE_TENSORPIPE",
    ],
    linkopts = [
        "-ltorch_cpu",
        "-lc10",
        "-ltensorpipe",
        "-lpthread",
    ],"""
        compatible = []
    else:
        # buildifier: disable=print
        print("skipping what needs PyTorch's own agent: there is no " + _HEADER +
              "; run tools/setup.sh --with-interop, or install libtorch-dev")
        attributes = ""
        compatible = ["@{}//:needs_libtorch".format(ctx.name)]
    ctx.file("BUILD", """
cc_library(
    name = "libtorch",{}
    visibility = ["//visibility:public"],
)

# Bazel skips what is compatible only with this, which no platform has.
constraint_setting(name = "libtorch_setting")

constraint_value(
    name = "needs_libtorch",
    constraint_setting = ":libtorch_setting",
    visibility = ["//visibility:public"],
)
""".format(attributes), executable = False)
    ctx.file("where.bzl", """
\"\"\"`target_compatible_with = WHERE_LIBTORCH_IS` skips a target elsewhere.\"\"\"

WHERE_LIBTORCH_IS = {}

# For what includes libtorch's headers, some of which lie in a folder of theirs.
LIBTORCH_COPTS = ["-isystem", "{}"]

# libtorch is not built for sanitizers, and a world with it needs the heap that
# they replace.
LIBTORCH_TAGS = ["no_asan", "no_tsan", "no_ubsan"]
""".format(compatible, _INCLUDE), executable = False)

libtorch = repository_rule(
    implementation = _libtorch_impl,
    doc = """`//:libtorch`: the libraries of Debian's libtorch-dev. Whatever
depends on it says `target_compatible_with = WHERE_LIBTORCH_IS`, which
`//:where.bzl` defines: Bazel then skips it where the package is missing, and the
rule prints why.""",
    local = True,
)
