"""What a workspace needs that builds reprise, or depends on it.

    local_repository(name = "reprise", path = ...)
    load("@reprise//tools/bazel:deps.bzl", "reprise_dependencies")
    reprise_dependencies()
"""

load(":cuda_headers.bzl", "cuda_headers")
load(":debian_bazel.bzl", "debian_bazel_repositories")
load(":debian_package.bzl", "debian_abseil", "debian_package")
load(":libtorch.bzl", "libtorch")

# A repository -> its Debian package, a header of it, its targets.
_PACKAGES = {
    "boost": struct(
        package = "libboost-context-dev",
        header = "/usr/include/boost/context/fiber.hpp",
        libraries = {"context": ["-lboost_context"]},
    ),
    "com_github_google_glog": struct(
        package = "libgoogle-glog-dev",
        header = "/usr/include/glog/logging.h",
        libraries = {"glog": ["-lglog"]},
    ),
    "com_github_jupp0r_prometheus_cpp": struct(
        package = "prometheus-cpp-dev",
        header = "/usr/include/prometheus/exposer.h",
        libraries = {"pull": ["-lprometheus-cpp-pull", "-lprometheus-cpp-core"]},
    ),
    "com_github_nlohmann_json": struct(
        package = "nlohmann-json3-dev",
        header = "/usr/include/nlohmann/json.hpp",
        libraries = {"json": []},
    ),
    "com_github_cliutils_cli11": struct(
        package = "libcli11-dev",
        header = "/usr/include/CLI/CLI.hpp",
        libraries = {"cli11": []},
    ),
    "com_google_benchmark": struct(
        package = "libbenchmark-dev",
        header = "/usr/include/benchmark/benchmark.h",
        libraries = {
            "benchmark": ["-lbenchmark", "-lpthread"],
            "benchmark_main": ["-lbenchmark_main", "-lbenchmark", "-lpthread"],
        },
    ),
    "com_google_googletest": struct(
        package = "libgmock-dev",
        header = "/usr/include/gmock/gmock.h",
        libraries = {
            "gtest": ["-lgmock", "-lgtest", "-lpthread"],
            "gtest_main": ["-lgmock_main", "-lgmock", "-lgtest", "-lpthread"],
        },
    ),
    "curl": struct(
        package = "libcurl4-openssl-dev",
        # Its header lies in a folder of the machine's kind.
        header = "/usr/bin/curl-config",
        libraries = {"curl": ["-lcurl"]},
    ),
    "dlpack": struct(
        package = "libdlpack-dev",
        header = "/usr/include/dlpack/dlpack.h",
        libraries = {"dlpack": []},
    ),
    "hiredis": struct(
        package = "libhiredis-dev",
        header = "/usr/include/hiredis/hiredis.h",
        libraries = {"hiredis": ["-lhiredis"]},
    ),
    "libmd": struct(
        package = "libmd-dev",
        header = "/usr/include/sha256.h",
        libraries = {"libmd": ["-lmd"]},
    ),
    "libuv": struct(
        package = "libuv1-dev",
        header = "/usr/include/uv.h",
        libraries = {"libuv": ["-luv"]},
    ),
    "tensorpipe": struct(
        package = "libtensorpipe-dev",
        header = "/usr/include/tensorpipe/tensorpipe.h",
        libraries = {"tensorpipe": ["-ltensorpipe", "-lpthread"]},
    ),
}

def reprise_dependencies():
    """Defines the external repositories of reprise that are not there yet."""
    debian_bazel_repositories()
    existing = native.existing_rules()
    if "bazel_skylib" not in existing:
        native.local_repository(
            name = "bazel_skylib",
            path = "/usr/share/bazel/tools/skylib",
        )
    if "com_google_absl" not in existing:
        debian_abseil(name = "com_google_absl")
    if "cuda" not in existing:
        cuda_headers(name = "cuda")
    if "libtorch" not in existing:
        libtorch(name = "libtorch")
    for name, package in _PACKAGES.items():
        if name not in existing:
            debian_package(
                name = name,
                package = package.package,
                header = package.header,
                libraries = package.libraries,
            )
