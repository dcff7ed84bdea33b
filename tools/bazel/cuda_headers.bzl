"""CUDA's header, where there is one."""

def _places(ctx):
    """Returns the paths at which cuda.h is looked for, the best first."""
    home = ctx.os.environ.get("CUDA_HOME", "")
    if home:
        return [home + "/include/cuda.h"]
    top = ctx.path(ctx.attr._workspace).dirname
    return [
        "/usr/local/cuda/include/cuda.h",
        # Where tools/setup.sh --with-cuda puts it.
        str(top) + "/.cache/cuda/include/cuda.h",
    ]

def _cuda_headers_impl(ctx):
    ctx.file("WORKSPACE", "workspace(name = \"{}\")\n".format(ctx.name), executable = False)
    found = [place for place in _places(ctx) if ctx.path(place).exists]
    if found:
        ctx.symlink(found[0], "include/cuda.h")
        attributes = """
    hdrs = ["include/cuda.h"],
    defines = ["REPRISE_WITH_CUDA"],
    includes = ["include"],"""
    else:
        # buildifier: disable=print
        print("building without CUDA: there is no " + " and no ".join(_places(ctx)) +
              "; install the CUDA toolkit or run tools/setup.sh --with-cuda")
        attributes = ""
    ctx.file("BUILD", """
cc_library(
    name = "headers",{}
    visibility = ["//visibility:public"],
)
""".format(attributes), executable = False)

cuda_headers = repository_rule(
    implementation = _cuda_headers_impl,
    doc = """`//:headers`: cuda.h from $CUDA_HOME or, when that is not set, from
/usr/local/cuda or from what `tools/setup.sh --with-cuda` brought. What depends
on it is compiled with REPRISE_WITH_CUDA, and without it where there is none.""",
    environ = ["CUDA_HOME"],
    local = True,
    attrs = {"_workspace": attr.label(default = "//:WORKSPACE")},
)
