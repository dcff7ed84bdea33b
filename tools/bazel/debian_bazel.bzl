"""Repositories that Debian's Bazel 4.2.3 would otherwise download.

Debian's build of Bazel has no version (`native.bazel_version` is empty), which
is how it is told from others. It still wants three repositories from the
network: rules_cc and rules_java when tool chains are registered, and
remote_coverage_tools for every test.
"""

_RULES_CC = "/usr/share/bazel/rules/cc"

# Files of rules_cc 0.0.4 that load a function which Bazel 4.2.3 does not have.
_RULES_CC_PATCHED = [
    "cc/private/rules_impl/cc_flags_supplier.bzl",
    "cc/private/rules_impl/compiler_flag.bzl",
]

def _rules_cc_impl(ctx):
    if not ctx.path(_RULES_CC + "/WORKSPACE").exists:
        fail("Debian's package bazel-rules-cc is missing: run tools/setup.sh")
    result = ctx.execute(["cp", "-R", "-L", _RULES_CC + "/.", "."])
    if result.return_code:
        fail("copying " + _RULES_CC + ": " + result.stderr)
    for name in _RULES_CC_PATCHED:
        text = ctx.read(name)
        text = text.replace(", \"use_cpp_toolchain\"", "")
        text = text.replace(
            "use_cpp_toolchain()",
            "[\"@bazel_tools//tools/cpp:toolchain_type\"]",
        )
        ctx.delete(name)
        ctx.file(name, text, executable = False)

_rules_cc = repository_rule(
    implementation = _rules_cc_impl,
    doc = "Debian's rules_cc, fit for Debian's Bazel.",
)

_JAVA_RULES = [
    "java_binary",
    "java_import",
    "java_library",
    "java_lite_proto_library",
    "java_package_configuration",
    "java_plugin",
    "java_proto_library",
    "java_runtime",
    "java_test",
    "java_toolchain",
]

def _rules_java_impl(ctx):
    ctx.file("WORKSPACE", "workspace(name = \"rules_java\")\n", executable = False)
    ctx.file("java/BUILD", "exports_files([\"defs.bzl\"])\n", executable = False)
    ctx.file("java/defs.bzl", "\n".join([
        "def {0}(**kwargs):\n    native.{0}(**kwargs)\n".format(rule)
        for rule in _JAVA_RULES
    ]), executable = False)

_rules_java = repository_rule(
    implementation = _rules_java_impl,
    doc = "The native Java rules under the names that Bazel's own files load.",
)

def _coverage_tools_impl(ctx):
    ctx.file("WORKSPACE", "workspace(name = \"remote_coverage_tools\")\n", executable = False)
    ctx.symlink(ctx.attr._tool, "coverage.py")
    ctx.file("BUILD", """
[sh_binary(
    name = name,
    srcs = ["coverage.py"],
    visibility = ["//visibility:public"],
) for name in ["coverage_report_generator", "lcov_merger"]]
""", executable = False)

_coverage_tools = repository_rule(
    implementation = _coverage_tools_impl,
    doc = "Stands in for Bazel's coverage report generator, a download.",
    attrs = {"_tool": attr.label(default = "//tools/bazel:coverage.py")},
)

def debian_bazel_repositories():
    """Call before anything else in WORKSPACE; does nothing on other Bazels."""
    if native.bazel_version:
        return
    existing = native.existing_rules()
    if "rules_cc" not in existing:
        _rules_cc(name = "rules_cc")
    if "rules_java" not in existing:
        _rules_java(name = "rules_java")

    # Bazel defines this one itself, before WORKSPACE is read: replace it.
    _coverage_tools(name = "remote_coverage_tools")
