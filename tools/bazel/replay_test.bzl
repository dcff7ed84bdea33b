"""Tests that the failures of mended defects do not come back.

    load("@reprise//tools/bazel:replay_test.bzl", "replay_tests")

    replay_tests(
        name = "replays",
        deps = ["//training:scenarios"],
        replays = glob(["*.replay"]),
    )

`reprise keep FILE --to DIRECTORY` puts a file there.
"""

load("@rules_cc//cc:defs.bzl", "cc_binary")

def replay_tests(
        name,
        replays,
        deps = [],
        command = None,
        variants = 64,
        tags = [],
        **kwargs):
    """Makes a test of each replay file, and a suite of them all.

    A test replays its file and runs some variants of it. It fails if a rule is
    violated in any of them, or if the file's scenario or parameters are gone.
    What was found is among its undeclared outputs.

    Args:
      name: the suite. The test of `lost.replay` is `NAME_lost`.
      replays: the files.
      deps: libraries with the scenarios that the files name; they must be
        `alwayslink`. They are linked into a command of the tests' own.
      command: another program to run instead, such as "//tools:reprise".
      variants: how many variants of each file are run.
      tags: tags of the tests.
      **kwargs: anything else that sh_test takes, such as `size` or `timeout`.
    """
    if command == None:
        command = name + "_command"
        cc_binary(
            name = command,
            testonly = True,
            linkstatic = True,
            tags = tags + ["no_tsan"],
            deps = deps + [Label("//tools/command:main")],
        )

    tests = []
    for replay in replays:
        test = name + "_" + replay.split("/")[-1].replace(".replay", "")
        tests.append(test)
        native.sh_test(
            name = test,
            srcs = [Label("//tools/bazel:replay_test.sh")],
            args = [
                "$(location {})".format(command),
                "$(location {})".format(replay),
                str(variants),
            ],
            data = [
                command,
                replay,
            ],
            # Fibers: ThreadSanitizer cannot follow them.
            tags = tags + ([] if "no_tsan" in tags else ["no_tsan"]),
            **kwargs
        )
    native.test_suite(
        name = name,
        tests = tests,
    )
