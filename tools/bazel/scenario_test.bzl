"""Tests that explore a scenario in the simulator.

    load("@reprise//tools/bazel:scenario_test.bzl", "scenario_test")

    scenario_test(
        name = "handover_test",
        srcs = ["handover.cc"],
        deps = ["@reprise//agent"],
        seeds = 1000,
        shard_count = 4,
    )
"""

load("@rules_cc//cc:defs.bzl", "cc_library", "cc_test")

def scenario_test(
        name,
        srcs = [],
        deps = [],
        scenario = None,
        seeds = 200,
        schedules = ["random"],
        shard_count = 1,
        params = {},
        tags = [],
        **kwargs):
    """Runs `reprise explore SCENARIO --seeds N --schedule S` as a test.

    A failing seed's replay file and story are among the test's undeclared
    outputs (bazel-testlogs/.../test.outputs).

    Args:
      name: the test. With several schedules it is a suite of one test each,
        `NAME_SCHEDULE`.
      srcs: sources that register scenarios. A scenario in a library of its own
        is linked only when that library is `alwayslink`.
      deps: what they use.
      scenario: as `reprise list` names it; default: `name` without `_test`.
      seeds: how many seeds in all; shards divide them.
      schedules: any of "cooperative", "random", "pct".
      shard_count: how many processes share the seeds.
      params: parameters of the scenario, a dictionary.
      tags: tags of the tests.
      **kwargs: anything else that cc_test takes, such as `size` or `timeout`.
    """
    if not schedules:
        fail("scenario_test {}: no schedule given".format(name))
    if scenario == None:
        scenario = name[:-len("_test")] if name.endswith("_test") else name

    # Fibers: ThreadSanitizer cannot follow them.
    tags = tags + ([] if "no_tsan" in tags else ["no_tsan"])
    deps = deps + [Label("//tools/command:main")]
    if srcs:
        # Once for all the schedules; alwayslink keeps the registrations.
        cc_library(
            name = name + "_scenarios",
            testonly = True,
            srcs = srcs,
            alwayslink = True,
            linkstatic = True,
            tags = tags,
            deps = deps,
        )
        deps = [":" + name + "_scenarios"]

    args = ["explore", scenario, "--seeds", str(seeds)]
    for key in sorted(params.keys()):
        args += ["--param", "'{}={}'".format(key, params[key])]

    tests = []
    for schedule in schedules:
        test = name if len(schedules) == 1 else name + "_" + schedule
        tests.append(test)
        cc_test(
            name = test,
            args = args + ["--schedule", schedule],
            linkstatic = True,
            # One shard is no sharding: the command then reports on all seeds.
            shard_count = shard_count if shard_count > 1 else None,
            tags = tags,
            deps = deps,
            **kwargs
        )
    if len(schedules) > 1:
        native.test_suite(
            name = name,
            tests = tests,
        )
